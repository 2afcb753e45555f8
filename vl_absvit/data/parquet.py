"""Read Parquet files in place: small columns into memory, large values one row group at a time.

Nothing is written. A folder may be read-only, and any number of processes may read it at once.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.errors import InputError, one_line

_UNREADABLE = (pa.ArrowException, OSError, ValueError)


def read_columns(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Columns of a file, in memory.

    Args:
        optional: further columns, which are read if they exist.

    Raises:
        InputError: the file is missing or damaged, or lacks one of ``columns``.
    """
    # read_table would turn a folder named a=b into a column.
    try:
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            missing = [column for column in columns if column not in names]
            if missing:
                raise InputError(f"{file}: expected a table with the column {missing[0]!r}, got {names}")
            return opened.read([*columns, *(name for name in optional if name in names)])
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing") from error
    except _UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as the table that was prepared: {one_line(error)}") from error


class LargeValues:
    """A column of large values in one or more files, by row. Rows are counted through all files."""

    def __init__(self, files: Sequence[Path], column: str) -> None:
        """
        Raises:
            InputError: a file cannot be read.
        """
        self._files, self._column, self._footers = list(files), column, [_footer(file) for file in files]
        self._groups = [
            (number, group) for number, footer in enumerate(self._footers) for group in range(footer.num_row_groups)
        ]
        sizes = [self._footers[number].row_group(group).num_rows for number, group in self._groups]
        self._first = np.concatenate([[0], np.cumsum(sizes, dtype=int)])  # first row of every group; number of rows

    def groups(self, rows: np.ndarray) -> np.ndarray:
        """Number of the row group of each row, counted through all files."""
        return (np.searchsorted(self._first, rows, side="right") - 1).astype(np.int32)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[bytes | None]:
        """The values of some rows. Values of one row group are read together.

        Raises:
            InputError: a row group cannot be read.
        """
        group_of = self.groups(np.asarray(rows))
        values: list[bytes | None] = [None] * len(rows)
        for group in np.unique(group_of).tolist():
            column = self._read(group)
            for place in np.flatnonzero(group_of == group).tolist():
                values[place] = column[int(rows[place]) - int(self._first[group])].as_py()
        return values

    def _read(self, group: int) -> pa.ChunkedArray:
        number, group_of_file = self._groups[group]
        file = self._files[number]
        try:
            # The file is opened anew, because forked loader processes must not share a file position or threads.
            with pq.ParquetFile(file, metadata=self._footers[number]) as opened:
                return opened.read_row_group(group_of_file, [self._column], use_threads=False).column(0)
        except _UNREADABLE as error:
            raise InputError(f"{file}: row group {group_of_file} cannot be read: {one_line(error)}") from error


def _footer(file: Path) -> pq.FileMetaData:
    try:
        with pq.ParquetFile(file) as opened:
            return opened.metadata
    except _UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as the table that was prepared: {one_line(error)}") from error
