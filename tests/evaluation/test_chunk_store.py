"""Parts of a long evaluation outlive an interruption, whole or not at all."""

import numpy as np
import pytest

from tests.damage import cut_short, emptied, replaced
from vl_absvit.errors import InputError
from vl_absvit.evaluation import chunk_store
from vl_absvit.evaluation.chunk_store import FileChunkStore

REQUEST = {"weights": "abc", "images": 3}


@pytest.fixture
def store(tmp_path):
    store = FileChunkStore(tmp_path / "scores.json")
    assert store.start(REQUEST) is False
    return store


def test_what_was_kept_is_there_after_an_interruption_of_the_same_evaluation(store, tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    store.put("pairs-0", array)
    again = FileChunkStore(tmp_path / "scores.json")
    assert again.start(REQUEST) is True
    assert again.get("pairs-0").dtype == np.float32 and np.array_equal(again.get("pairs-0"), array)
    assert again.get("pairs-1") is None


def test_parts_of_another_evaluation_are_removed(store):
    store.put("pairs-0", np.ones(2))
    assert store.start(REQUEST | {"images": 4}) is False
    assert store.get("pairs-0") is None


def test_nothing_is_left_when_the_result_is_written(store, tmp_path):
    store.put("pairs-0", np.ones(2))
    store.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [cut_short("pairs-0.npy"), emptied("pairs-0.npy"), replaced("pairs-0.npy", "nonsense")]
)
def test_a_damaged_part_is_named(store, damage):
    store.put("pairs-0", np.ones(2_000))
    damage(store.folder)
    with pytest.raises(InputError, match="pairs-0.npy: not what was kept there .*; remove the folder to start over"):
        store.get("pairs-0")


def test_a_full_disk_is_one_line_and_leaves_no_half_part(store, monkeypatch):
    def write_a_little(stream, array, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunk_store.np, "save", write_a_little)
    with pytest.raises(InputError, match="pairs-0.npy: cannot be written: No space left on device"):
        store.put("pairs-0", np.ones(2))
    assert [path.name for path in store.folder.iterdir()] == ["request.json"] and store.get("pairs-0") is None
