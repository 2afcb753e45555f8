"""Parquet files read where they lie: small columns into memory, large values a row group at a time.

Nothing is written anywhere, so that a folder may be read-only and any number of processes read it at once.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.errors import InputError

_UNREADABLE = (pa.ArrowException, OSError, ValueError)


def read_columns(file: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """Columns of a file, in memory.

    Args:
        optional: further columns, read as far as they are there.

    Raises:
        InputError: the file is missing or damaged, or lacks one of ``columns``.
    """
    # Not read_table: of a folder named a=b that makes a column.
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
        raise InputError(f"{file}: cannot be read as the table that was prepared: {_one_line(error)}") from error


class LargeValues:
    """A column of large values in one or more files, by row; the rows of a file follow those of the one before."""

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
        self._first = np.concatenate([[0], np.cumsum(sizes, dtype=int)])  # row of every group, and the number of rows

    def take(self, rows: Sequence[int]) -> list[bytes | None]:
        """The values of some rows; what lies in one row group is read together.

        Raises:
            InputError: a row group cannot be read.
        """
        group_of = np.searchsorted(self._first, rows, side="right") - 1
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
            # Opened anew: loader processes that are forked off share no place in a file, and no threads.
            with pq.ParquetFile(file, metadata=self._footers[number]) as opened:
                return opened.read_row_group(group_of_file, [self._column], use_threads=False).column(0)
        except _UNREADABLE as error:
            raise InputError(f"{file}: row group {group_of_file} cannot be read: {_one_line(error)}") from error


def _footer(file: Path) -> pq.FileMetaData:
    try:
        with pq.ParquetFile(file) as opened:
            return opened.metadata
    except _UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as the table that was prepared: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
