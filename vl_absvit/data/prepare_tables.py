"""Rows to Parquet files, a row group at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vl_absvit.data.answers import soft_targets
from vl_absvit.data.prepare_store import CheckedImage, Row

_ROWS_PER_GROUP = 8_192
_BYTES_PER_GROUP = 16 << 20
_BYTES_PER_FILE = 512 << 20

_IMAGE_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
_QUESTION_SCHEMA = pa.schema([("question_id", pa.int64()), ("image_id", pa.int64()), ("question", pa.string())])
_ANNOTATED_SCHEMA = pa.unify_schemas(
    [
        _QUESTION_SCHEMA,
        pa.schema(
            [
                ("question_type", pa.string()),
                ("answer_type", pa.string()),
                ("multiple_choice_answer", pa.string()),
                ("answers", pa.list_(pa.string())),
                ("labels", pa.list_(pa.int32())),
                ("scores", pa.list_(pa.float32())),
            ]
        ),
    ]
)


@dataclass
class SplitCounts:
    """What a split's table holds, in questions."""

    questions: int = 0
    without_image: int = 0  # the image was missing
    with_target: int = 0  # at least one answer is in the vocabulary
    kept_for_training: int = 0  # with a target and an image

    def add(self, row: Row, has_target: bool) -> None:
        """Count one question."""
        self.questions += 1
        self.without_image += not row.has_image
        self.with_target += has_target
        self.kept_for_training += has_target and row.has_image


def write_questions(path: Path, rows: Iterable[Row]) -> SplitCounts:
    """The table of a split without answers."""
    counts = SplitCounts()
    with pq.ParquetWriter(path, _QUESTION_SCHEMA) as writer:
        for group in _groups(rows):
            for row in group:
                counts.add(row, has_target=False)
            _write(writer, _QUESTION_SCHEMA, [row[:3] for row in group])
    return counts


def write_annotated_questions(
    path: Path, rows: Iterable[Row], index: Mapping[str, int], normalise: Callable[[str], str]
) -> SplitCounts:
    """The table of a split with answers, and their labels and soft scores.

    Args:
        index: answer -> label.
        normalise: applied to each of the ten answers before it is looked up.
    """
    counts = SplitCounts()
    with pq.ParquetWriter(path, _ANNOTATED_SCHEMA) as writer:
        for group in _groups(rows):
            values = []
            for row in group:
                labels, scores = soft_targets([normalise(answer) for answer in row.answers], index)
                counts.add(row, has_target=bool(labels))
                values.append((*row[:7], labels, scores))
            _write(writer, _ANNOTATED_SCHEMA, values)
    return counts


def write_images(folder: Path, images: Iterable[CheckedImage], raw: Path, *, embed: bool) -> None:
    """The table of images: ``images.parquet``, or ``images-00000.parquet`` and so on if it holds the files' bytes."""
    if not embed:
        with pq.ParquetWriter(folder / "images.parquet", _IMAGE_SCHEMA) as writer:
            for group in _groups(images):
                _write(writer, _IMAGE_SCHEMA, [(image.image_id, _file(image), None, *image.size) for image in group])
        return
    rows = ((image.image_id, _file(image), _content(image, raw), *image.size) for image in images)
    for number, first in enumerate(iter(lambda: next(rows, None), None)):
        _write_shard(folder / f"images-{number:05d}.parquet", itertools.chain([first], rows))


def _write_shard(path: Path, rows: Iterator[tuple]) -> None:
    """Take rows until the file is large enough, a row group for every few megabytes."""
    written = 0
    with pq.ParquetWriter(path, _IMAGE_SCHEMA, compression="none") as writer:
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


def _groups(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rows = iter(rows)
    while group := list(itertools.islice(rows, _ROWS_PER_GROUP)):
        yield group


def _write(writer: pq.ParquetWriter, schema: pa.Schema, rows: Sequence[tuple]) -> None:
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
