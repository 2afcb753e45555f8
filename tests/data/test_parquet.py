"""Tables read where they lie: values by row whatever the row groups, one line where a file cannot be read."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vl_absvit.data.parquet import LargeValues, read_columns
from vl_absvit.errors import InputError


@pytest.fixture
def files(tmp_path):
    """Three files of 7, 0 and 5 rows in row groups of 1 to 3; every fifth row has no value."""
    values = [None if row % 5 == 0 else bytes([row]) * (row + 1) for row in range(12)]
    paths = []
    for number, (first, end, size) in enumerate([(0, 7, 3), (7, 7, 1), (7, 12, 1)]):
        paths.append(tmp_path / f"{number}.parquet")
        table = pa.table({"row": range(first, end), "bytes": pa.array(values[first:end], pa.binary())})
        pq.write_table(table, paths[-1], row_group_size=size)
    return paths, values


def test_large_values_are_those_of_the_rows_in_any_order_and_as_often_as_asked_for(files):
    paths, values = files
    column, draw = LargeValues(paths, "bytes"), np.random.default_rng(0)
    assert column.take(range(12)) == values and column.take([]) == []
    for _ in range(20):
        rows = draw.integers(12, size=9)
        assert column.take(rows) == [values[row] for row in rows]


def test_a_row_group_is_read_once_for_all_rows_of_it(files, monkeypatch):
    paths, _ = files
    column, read = LargeValues(paths, "bytes"), []
    read_group = LargeValues._read
    monkeypatch.setattr(LargeValues, "_read", lambda self, group: read.append(group) or read_group(self, group))
    column.take([8, 0, 2, 1, 8])
    assert read == [0, 5]  # the empty file is a group of no rows


def test_a_file_that_is_cut_short_later_is_one_line(files):
    paths, _ = files
    column = LargeValues(paths, "bytes")
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    with pytest.raises(InputError, match=r"2.parquet: row group 3 cannot be read: \S"):
        column.take([10])


def test_a_table_is_read_by_its_columns_wherever_it_lies(tmp_path):
    folder = tmp_path / "row=3"  # elsewhere, a name that makes a column
    folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"], "c": [None, None]}), folder / "t.parquet")
    table = read_columns(folder / "t.parquet", ["b"], optional=["a", "z"])
    assert table.to_pydict() == {"b": ["x", "y"], "a": [1, 2]}
    with pytest.raises(InputError, match=r"t.parquet: expected a table with the column 'd', got \['a', 'b', 'c'\]"):
        read_columns(folder / "t.parquet", ["a", "d"])
    with pytest.raises(InputError, match="gone.parquet is missing"):
        read_columns(folder / "gone.parquet", ["a"])
