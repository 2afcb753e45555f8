"""FAISS finds nearly what comparing all finds, says how much, and its similarities are exact."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.errors import InputError
from vl_absvit.search.approximate import FILE, build, describe, nearest_by_faiss, vectors_at
from vl_absvit.search.gallery import nearest
from vl_absvit.search.index_folder import Index
from vl_absvit.search.segments import Layout, Row, SegmentWriter

pytest.importorskip("faiss")


@pytest.fixture
def index(tmp_path):
    """An index of 600 vectors in two segments."""
    layout, segments = Layout("x", 1, 16, "float32"), []
    for name, number in (("000000", 400), ("000001", 200)):
        writer = SegmentWriter(tmp_path, name, layout)
        vectors = F.normalize(torch.randn(number, 1, 16), dim=-1).numpy()
        writer.add([Row(PictureFile(f"{name}/{row}.png", 1, 0), "") for row in range(number)], vectors)
        segments.append(writer.close())
    made_with = {"pool": "mean", "precision": "fp32"}
    return Index(tmp_path, made_with, "", {}, layout, tmp_path, "", segments)


def test_it_finds_nearly_all_and_says_how_much(index):
    about = build(index)
    made = index._replace(approximate=about)
    priors = torch.randn(20, 16)
    found, exact = nearest_by_faiss(made, priors, 10), nearest(priors, index.parts(), "mean", 10)
    shares = [len(set(row) & set(true)) / 10 for row, true in zip(found.rows, exact.rows, strict=True)]
    assert about["recall"] >= 0.95 and np.mean(shares) > 0.8
    assert f"recall@10 against comparing with all {about['recall']:.3f}" in describe(made)
    cosines = (vectors_at(index, found.rows[3].tolist()) @ F.normalize(priors[3], dim=0)).numpy()
    assert found.similarity[3] == pytest.approx(cosines) and (np.diff(cosines) <= 0).all()


def test_a_file_that_is_another_s_is_refused(index):
    made = index._replace(approximate=build(index))
    with pytest.raises(InputError, match="it is of another index; --exact searches without it"):
        nearest_by_faiss(made._replace(segments=index.segments[:1]), torch.randn(1, 16), 3)
    (index.folder / FILE).write_bytes(b"hello")
    with pytest.raises(InputError, match="--exact searches without it"):
        nearest_by_faiss(made, torch.randn(1, 16), 3)
