"""Tables of one's own as rows: CSV, TSV, JSON Lines, JSON, Parquet, or a folder that ``datasets`` saved.

A row that cannot be read is refused by itself, with its place; what makes the whole table unreadable stops the run.
"""

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.json_files import form_name, read_json
from vl_absvit.data.strict_json import parse
from vl_absvit.errors import InputError, one_line
from vl_absvit.prepare.json_records import records_in
from vl_absvit.prepare.own.delimited import read_delimited, read_utf8
from vl_absvit.prepare.own.refusals import Fault, Place

if TYPE_CHECKING:
    from datasets import Dataset

DELIMITED, LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
_ROWS_AT_ONCE = 1_000


class TableRow(NamedTuple):
    """A row as it is in its table."""

    place: Place
    split: str | None  # of the part of a saved ``DatasetDict`` that it is in
    cells: dict[str, Any] | Fault  # by column


def read_table(path: Path, *, has_header: bool = True) -> Iterator[TableRow]:
    """The rows of a table, in its order.

    Args:
        has_header: whether the first row of a table of lines names the columns.

    Raises:
        InputError: the table is missing, has another form, or cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        return _saved(path)
    ending = ending_of(path)
    if ending in DELIMITED:
        rows = read_delimited(path, has_header=has_header)
        return (TableRow(Place(path.name, "line", number), None, cells) for number, cells in rows)
    if not has_header:
        raise InputError(f"{path}: only {', '.join(DELIMITED)} can be without a header")
    if ending in LINES:
        return _json_lines(path)
    if ending == ".json":
        return _json(path)
    if ending == ".parquet":
        return _parquet(path)
    raise InputError(
        f"{path}: expected a table *.csv, *.tsv, *.txt, *.jsonl, *.ndjson, *.json or *.parquet, or a folder that "
        "datasets' save_to_disk wrote"
    )


def ending_of(path: Path) -> str:
    """The ending that says what form a table has, ``.csv`` of ``a.CSV.gz``."""
    return PurePath(path.name.removesuffix(".gz")).suffix.lower()


def files_of(path: Path) -> dict[str, Path]:
    """The files of a table: name for a manifest -> file."""
    if not path.is_dir():
        return {path.name: path}
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("cache-"))
    return {str(PurePath(path.name, file.relative_to(path))): file for file in files}


def _json_lines(path: Path) -> Iterator[TableRow]:
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if line.strip():
            yield TableRow(Place(path.name, "line", number), None, object_in(line))


def object_in(line: str) -> dict[str, Any] | Fault:
    """The cells that a line of JSON Lines has by column."""
    try:
        value = parse(line)
    except ValueError as error:
        return Fault("not JSON", str(error))
    return value if isinstance(value, dict) else Fault("no JSON object", form_name(value))


def _json(path: Path) -> Iterator[TableRow]:
    for number, (_, record) in enumerate(records_in(read_json(path), path, "data"), start=1):
        yield TableRow(Place(path.name, "record", number), None, record)


def _parquet(path: Path) -> Iterator[TableRow]:
    for number, cells in enumerate(parquet_cells(path), start=1):
        yield TableRow(Place(path.name, "row", number), None, cells)


def parquet_cells(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a few at a time.

    Raises:
        InputError: it cannot be read.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(_ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    number += 1
                    yield cells
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet, after row {number:,}: {one_line(error)}") from error


def _saved(path: Path) -> Iterator[TableRow]:
    """The rows of a saved ``Dataset`` or ``DatasetDict``. Pictures in it are not decoded; class labels become names."""
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except Exception as error:  # whatever the library raises for a folder that is none of its
        raise InputError(f"{path}: expected a folder that datasets' save_to_disk wrote: {one_line(error)}") from error
    parts = loaded.items() if isinstance(loaded, DatasetDict) else [(None, loaded)]
    for split, dataset in parts:
        name = path.name if split is None else f"{path.name}/{split}"
        for number, cells in enumerate(_rows(dataset), start=1):
            yield TableRow(Place(name, "row", number), split, cells)


def _rows(dataset: "Dataset") -> Iterator[dict[str, Any]]:
    from datasets import ClassLabel

    classes = {name: kind for name, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
    for table in dataset.with_format("arrow").iter(_ROWS_AT_ONCE):
        for cells in table.to_pylist():
            for name, kind in classes.items():
                label = cells[name]
                cells[name] = None if label is None or label < 0 else kind.int2str(label)
            yield cells
