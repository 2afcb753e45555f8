"""Two processes make the index that one makes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress

from tests.distributed_helper import run_on_ranks
from tests.tiny_vqa import tiny_retrieval_config, world  # noqa: F401
from vl_absvit.search.index_folder import read_index
from vl_absvit.search.index_run import Source, locked, update_index
from vl_absvit.search.segments import read_rows
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vl_checkpoint import load_parts


def make(checkpoint: str, photos: str, output: str) -> list[int]:
    source = Source(load_parts(checkpoint), Path(checkpoint), checkpoint, "fp32")
    with locked(Path(output)), Progress(disable=True) as bar:
        done = update_index(source, Path(photos), Path(output), batch_size=2, num_workers=0, bar=bar)
    return [done.looked, done.removed, len(done.bad)]


def held(output: Path) -> dict[str, np.ndarray]:
    """File -> vectors."""
    index, found = read_index(output), {}
    for segment, part in zip(index.segments, index.parts(), strict=True):
        rows = read_rows(output, segment.name, segment.rows)
        found |= {row.picture.file: vectors for row, vectors in zip(rows, part, strict=True)}
    return found


@pytest.mark.slow
def test_two_processes_share_the_work(world, tmp_path):  # noqa: F811
    RetrievalTask(tiny_retrieval_config(world, tmp_path / "run")).save(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/bad.png").touch()
    (tmp_path / "photos/bad2.png").write_text("x")
    one = make(str(tmp_path), str(tmp_path / "photos"), str(tmp_path / "one"))
    two = run_on_ranks(make, 2, str(tmp_path), str(tmp_path / "photos"), str(tmp_path / "two"))
    assert one == two[0] == two[1] == [5, 0, 2]
    first, second = held(tmp_path / "one"), held(tmp_path / "two")
    assert sorted(first) == sorted(second) and len(first) == 5
    for file, vectors in first.items():
        np.testing.assert_allclose(vectors, second[file], atol=1e-3)
    assert len(read_index(tmp_path / "two").segments) == 2
    (tmp_path / "photos/1.png").unlink()
    assert run_on_ranks(make, 2, str(tmp_path), str(tmp_path / "photos"), str(tmp_path / "two"))[1] == [0, 1, 2]
    assert sorted(held(tmp_path / "two")) == ["0.png", "2.png", "3.png", "4.png"]
