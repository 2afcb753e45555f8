"""Rows on disk: what is read is what was written, rounded; nothing is read that was not; killed work goes on."""

import numpy as np
import pytest
import torch

from tests.killing import before_operation, die, fill_the_disk, in_a_process
from vl_absvit.data import kept_rows
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.errors import InputError

KEYS, LENGTHS = np.array([2, 3, 5, 7, 11]), np.array([3, 1, 4, 1, 5])
CONTENT = {key: torch.linspace(0, key / 3, length) for key, length in zip(KEYS.tolist(), LENGTHS, strict=True)}
REQUEST = {"weights": "a1", "images": "b2"}


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(kept_rows, "FILE_BYTES", 8)  # four numbers


@pytest.fixture
def rows(tmp_path) -> KeptRows:
    rows = KeptRows(tmp_path / "rows", KEYS, LENGTHS)
    rows.start(REQUEST)
    return rows


def fill(rows: KeptRows) -> list[int]:
    """Write what is missing; the files that were."""
    missing = rows.missing()
    for file in missing:
        rows.write(file, [CONTENT[key] for key in rows.keys_of(file).tolist()])
    return missing


def test_rows_are_read_as_they_were_written_in_bf16(rows):
    assert fill(rows) == [0, 1, 2] and rows.missing() == []
    assert [rows.keys_of(file).tolist() for file in range(3)] == [[2, 3], [5], [7, 11]]
    assert (len(rows), rows.files, rows.bytes_of([0, 2])) == (5, 3, 2 * (3 + 1 + 1 + 5))
    asked = [7, 2, 11, 2]
    for key, row in zip(asked, rows.load(asked), strict=True):
        assert row.dtype == torch.bfloat16 and torch.equal(row, CONTENT[key].bfloat16())


def test_a_folder_of_another_request_or_of_something_else_is_refused(rows, tmp_path):
    fill(rows)
    rows.start(REQUEST)
    with pytest.raises(InputError, match=r"rows: was made with another weights: a1, now it is a9; name another folder"):
        rows.start(REQUEST | {"weights": "a9"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.jpg").touch()
    with pytest.raises(InputError, match="other: exists and holds something else"):
        KeptRows(tmp_path / "other", KEYS, LENGTHS).start(REQUEST)
    assert rows.missing() == [] and [path.name for path in (tmp_path / "other").iterdir()] == ["photo.jpg"]


def test_what_was_damaged_is_named(rows):
    fill(rows)
    file = rows.folder / "000001.bf16"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(InputError, match="000001.bf16: expected 8 bytes, got 6; remove it"):
        rows.missing()
    with pytest.raises(InputError, match="000001.bf16: ends too early"):
        rows.load([5])
    file.unlink()
    with pytest.raises(InputError, match="000001.bf16: cannot be read: No such file"):
        rows.load([5])
    assert fill(rows) == [1] and torch.equal(rows.load([5])[0], CONTENT[5].bfloat16())


@pytest.mark.parametrize("fault", [die, fill_the_disk])
@pytest.mark.parametrize("operation", [1, 4])
def test_interrupted_work_leaves_whole_files_and_goes_on_with_the_rest(rows, operation, fault):
    def interrupted() -> None:
        before_operation(operation, fault, lambda name, arguments: name in ("open", "os.rename"))
        fill(rows)

    assert in_a_process(interrupted) != 0
    there = 3 - len(rows.missing())
    assert there == operation // 4 and fill(rows) == list(range(there, 3))
    for key, row in zip(KEYS.tolist(), rows.load(KEYS), strict=True):
        assert torch.equal(row, CONTENT[key].bfloat16())
