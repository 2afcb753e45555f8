"""Tables and Parquet files of rows; and the table of images of a prepared folder."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.cli import progress
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images

_ROWS_PER_GROUP = 8_192
_BYTES_PER_GROUP = 1 << 20  # of pictures; reading one picture reads its whole group
_BYTES_PER_FILE = 512 << 20

QUESTION_SCHEMA = pa.schema([("question_id", pa.int64()), ("image_id", pa.int64()), ("question", pa.string())])
_IMAGE_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


# Images are compressed already. Statistics and dictionaries would repeat some of them.
_OF_PICTURES: dict[str, Any] = dict(compression="none", use_dictionary=False, write_statistics=False)


def table_of(rows: Iterable[Sequence[Any]], schema: pa.Schema, description: str) -> pa.Table:
    """A table of rows. Values are in the order of the schema's columns; memory holds a few thousand rows at a time.

    Args:
        description: name of the rows in the progress bar.
    """
    rows, batches = iter(rows), []
    with progress() as bar:
        task = bar.add_task(description, total=None)
        while group := list(itertools.islice(rows, _ROWS_PER_GROUP)):
            batches.append(batch_of(schema, group))
            bar.update(task, advance=len(group))
    return pa.Table.from_batches(batches, schema).combine_chunks()


def sorted_by_id(table: pa.Table, path: Path, row_type: str) -> pa.Table:
    """A table in the order of its first column, an id.

    Args:
        path, row_type: file of the rows and name of a row, for the message.

    Raises:
        InputError: an id occurs twice.
    """
    ids = table.column(0).to_numpy()
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(twice):
        raise InputError(f"{path}: the {row_type} {ids[order[twice[0]]]} occurs twice")
    return table if (order[1:] > order[:-1]).all() else table.take(order)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table into a Parquet file."""
    with pq.ParquetWriter(path, table.schema, compression="snappy") as writer:
        for start in range(0, len(table), _ROWS_PER_GROUP):
            writer.write_table(table.slice(start, _ROWS_PER_GROUP))


def write_rows(
    path: Path,
    schema: pa.Schema,
    rows: Iterable[Sequence[Any]],
    *,
    rows_per_group: int = _ROWS_PER_GROUP,
    compression: str = "snappy",
) -> None:
    """Write any number of large rows into a Parquet file. Memory holds one row group at a time."""
    rows = iter(rows)
    with pq.ParquetWriter(path, schema, compression=compression) as writer:
        while group := list(itertools.islice(rows, rows_per_group)):
            writer.write_batch(batch_of(schema, group))


def write_images(folder: Path, images: Images, *, embed: bool) -> None:
    """Write the table of images: ``images.parquet``, or ``images-00000.parquet`` and so on with the files' bytes."""
    listed = [image_id for image_id in images.files if image_id not in images.bad]
    rows = (_image_row(images, image_id, embed) for image_id in listed)
    if not embed:
        write_rows(folder / "images.parquet", _IMAGE_SCHEMA, rows)
        return
    for number, first in enumerate(iter(lambda: next(rows, None), None)):
        _write_shard(folder / f"images-{number:05d}.parquet", itertools.chain([first], rows))


def _image_row(images: Images, image_id: int, embed: bool) -> tuple:
    """Id, file, bytes, width and height; only the id of a missing image."""
    if image_id not in images.sizes:
        return image_id, None, None, None, None
    file = images.files[image_id]
    return image_id, file, (images.raw / file).read_bytes() if embed else None, *images.sizes[image_id]


def write_pictures(path: Path, rows: Iterable[tuple]) -> None:
    """Write rows of the table of images, with a row group for every megabyte of bytes."""
    with pq.ParquetWriter(path, _IMAGE_SCHEMA, **_OF_PICTURES) as writer:
        for group, _ in by_size(rows, _IMAGE_SCHEMA.get_field_index("bytes"), _BYTES_PER_GROUP):
            writer.write_batch(batch_of(_IMAGE_SCHEMA, group))


def _write_shard(path: Path, rows: Iterator[tuple]) -> None:
    """Write rows until the file is large enough, with a row group for every megabyte."""
    written = 0
    with pq.ParquetWriter(path, _IMAGE_SCHEMA, **_OF_PICTURES) as writer:
        for group, size in by_size(rows, _IMAGE_SCHEMA.get_field_index("bytes"), _BYTES_PER_GROUP):
            writer.write_batch(batch_of(_IMAGE_SCHEMA, group))
            written += size
            if written >= _BYTES_PER_FILE:
                return


def by_size(rows: Iterable[tuple], column: int, enough: int) -> Iterator[tuple[list[tuple], int]]:
    """Groups of rows with enough bytes in a column, and their numbers of bytes. The last group may have fewer."""
    group, size = [], 0
    for row in rows:
        group.append(row)
        size += len(row[column] or b"")
        if size >= enough:
            yield group, size
            group, size = [], 0
    if group:
        yield group, size


def batch_of(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows as columns. Values are in the order of the schema's columns."""
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
