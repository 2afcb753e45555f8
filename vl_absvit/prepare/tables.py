"""Rows to Parquet files in constant memory; the table of images, which every prepared folder has."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.prepare.image_store import CheckedImage, ImageStore

_ROWS_PER_GROUP = 8_192
_BYTES_PER_GROUP = 1 << 20  # of pictures: for one of them, its whole group is read
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


def write_rows(
    path: Path,
    schema: pa.Schema,
    rows: Iterable[Sequence[Any]],
    *,
    rows_per_group: int = _ROWS_PER_GROUP,
    compression: str = "snappy",
) -> None:
    """A Parquet file of any number of rows, a row group at a time; values in the order of the schema's columns."""
    rows = iter(rows)
    with pq.ParquetWriter(path, schema, compression=compression) as writer:
        while group := list(itertools.islice(rows, rows_per_group)):
            _write(writer, schema, group)


def write_images(folder: Path, images: ImageStore, *, embed: bool) -> None:
    """The table of images: ``images.parquet``, or ``images-00000.parquet`` and so on if it holds the files' bytes."""
    listed = images.in_state("good", "missing")
    if not embed:
        rows = ((image.image_id, _file(image), None, *image.size) for image in listed)
        write_rows(folder / "images.parquet", _IMAGE_SCHEMA, rows)
        return
    rows = ((image.image_id, _file(image), _content(image, images.raw), *image.size) for image in listed)
    for number, first in enumerate(iter(lambda: next(rows, None), None)):
        _write_shard(folder / f"images-{number:05d}.parquet", itertools.chain([first], rows))


def _write_shard(path: Path, rows: Iterator[tuple]) -> None:
    """Take rows until the file is large enough, a row group for every megabyte."""
    written = 0
    # Images are compressed already; statistics and dictionaries would repeat some of them.
    how = dict(compression="none", use_dictionary=False, write_statistics=False)
    with pq.ParquetWriter(path, _IMAGE_SCHEMA, **how) as writer:
        while written < _BYTES_PER_FILE:
            group, size = [], 0
            for row in rows:
                group.append(row)
                size += len(row[2] or b"")
                if size >= _BYTES_PER_GROUP:
                    break
            if not group:
                return
            _write(writer, _IMAGE_SCHEMA, group)
            written += size


def _file(image: CheckedImage) -> str | None:
    return image.file if image.state == "good" else None


def _content(image: CheckedImage, raw: Path) -> bytes | None:
    return (raw / image.file).read_bytes() if image.state == "good" else None


def _write(writer: pq.ParquetWriter, schema: pa.Schema, rows: Sequence[tuple]) -> None:
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
