"""What is kept of first looks gives the dual encoder's scores, and the best of a gallery are found in any blocks."""

import numpy as np
import pytest
import torch

from vl_absvit.errors import InputError
from vl_absvit.models.prior import prior_similarity
from vl_absvit.search import gallery
from vl_absvit.search.gallery import dtype_of, kept_vectors, nearest

POOLS = ("lse", "max", "mean", "cls")


def some(pool, images=50, width=16):
    """Priors (3, D), tokens (I, 5, D) with one prefix token, and what is kept of them in two parts."""
    priors, tokens = torch.randn(3, width), torch.randn(images, 5, width)
    kept = kept_vectors(tokens, pool, 1).numpy().astype(dtype_of(pool))
    return priors, tokens, [kept[:20], kept[20:]]


@pytest.mark.parametrize("pool", POOLS)
def test_scores_are_those_of_the_dual_encoder(pool):
    priors, tokens, parts = some(pool)
    expected = prior_similarity(priors, tokens, pool, 1)
    found = nearest(priors, parts, pool, 50)
    for text in range(3):
        assert found.similarity[text] == pytest.approx(expected[text, found.rows[text]].numpy(), abs=1e-3)
        assert sorted(found.rows[text]) == list(range(50)) and (np.diff(found.similarity[text]) <= 0).all()


@pytest.mark.parametrize(("pool", "size"), [("lse", 8192), ("max", 64), ("mean", 196), ("cls", 64)])
def test_the_best_few_do_not_depend_on_blocks(pool, size, monkeypatch):
    priors, _, parts = some(pool)
    every = nearest(priors, parts, pool, 50)
    monkeypatch.setattr(gallery, "BLOCK_BYTES", size)
    few = nearest(priors, parts, pool, 4)
    assert np.array_equal(few.rows, every.rows[:, :4])
    assert few.similarity == pytest.approx(every.similarity[:, :4], abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3.0])
def test_vectors_that_are_none_are_noticed(bad):
    priors, _, parts = some("max")
    parts[1][7, 1, :] = bad
    with pytest.raises(InputError, match="damaged"):
        nearest(priors, parts, "max", 4)
