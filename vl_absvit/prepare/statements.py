"""What preparations of statements about images share: NLVR2 (about two images) and SNLI-VE (about one)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vl_absvit.data.records import IMAGE_COLUMNS, STATEMENT_COLUMNS, STATEMENT_LABELS
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images, refuse_without_any
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.prepare import Content, Records, Source, count_rows, ids_in
from vl_absvit.prepare.tables import write_table

_TYPES = {
    "statement_id": pa.int64(),
    "image_id": pa.int64(),
    "second_image_id": pa.int64(),
    "statement": pa.string(),
    "label": pa.int8(),  # place among the kind's ``STATEMENT_LABELS``
    "name": pa.string(),
    "subset": pa.string(),  # null where a statement is in none
}


def schema_of(kind: str) -> pa.Schema:
    """Columns of a table of statements of a kind."""
    return pa.schema([(name, _TYPES[name]) for name in STATEMENT_COLUMNS[kind]])


def image_columns(kind: str) -> tuple[str, ...]:
    """The columns that name a statement's images."""
    return tuple(name for name in IMAGE_COLUMNS if name in STATEMENT_COLUMNS[kind])


def checked_statement(text: str, location: str) -> str:
    """A statement without white space around it.

    Raises:
        InputError: it is empty.
    """
    if not (text := text.strip()):
        raise InputError(f"{location}: the statement is empty")
    return text


def refuse_repeated_names(table: pa.Table, path: Path) -> None:
    """Raise ``InputError`` if two statements of a file have the same official id."""
    names, numbers = np.unique(table.column("name").to_numpy(zero_copy_only=False), return_counts=True)
    if (numbers > 1).any():
        raise InputError(f"{path}: the statement {names[numbers.argmax()]} occurs {numbers.max()} times")


class StatementSource(Source):
    """Statements of one kind."""

    row_type = "statements"

    def __init__(self, kind: str, published: Mapping[str, int]) -> None:
        """
        Args:
            kind: a key of ``STATEMENT_LABELS``.
            published: split -> official number of statements, as far as it is known.
        """
        self._kind, self._published = kind, published

    def check(self, journal: Journal, images: Images) -> None:
        """Refuse a folder without any of the images; raises ``InputError``."""
        refuse_without_any(images)

    def write(self, folder: Path, records: Records, images: Images) -> Content:
        """Write a table for each split; statements about bad images are left out."""
        columns, words = image_columns(self._kind), STATEMENT_LABELS[self._kind]
        counts: dict[str, dict[str, Any]] = {}
        warnings = []
        for split, table in records.splits.items():
            number, published = len(table), self._published.get(split)
            if published is not None and number != published:
                warnings.append(f"{split}: has {number:,} statements, the official split has {published:,}")
            are_usable = images.are_usable(ids_in(table, columns)).reshape(number, -1).all(axis=1)
            usable = table.filter(pa.array(are_usable))
            if not len(usable):
                warnings.append(f"{split}: no statement is left, all are about images that cannot be used")
                continue
            write_table(folder / f"{split}.parquet", usable)
            labels = Counter(usable.column("label").to_pylist())
            counts[split] = {
                **count_rows(self.row_type, ids_in(usable, columns), images),
                "labels": {word: labels[place] for place, word in enumerate(words)},
            }
        if not counts:
            raise InputError("no statement is left, all are about images that cannot be used")
        return Content(counts, warnings, {"labels": list(words)})
