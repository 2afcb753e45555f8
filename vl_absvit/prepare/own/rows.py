"""Rows of one's own tables with what questions and captions share: picture and split."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.errors import InputError
from vl_absvit.prepare.own.columns import Columns
from vl_absvit.prepare.own.options import TableOptions
from vl_absvit.prepare.own.refusals import Fault, Place, Refusals
from vl_absvit.prepare.own.splits import SplitTable, draw, split_name
from vl_absvit.prepare.own.table_rows import TableRow, read_table
from vl_absvit.prepare.own.values import text_of


class OwnRow(NamedTuple):
    """A row whose picture has a name."""

    place: Place
    split: str | None  # None where a draw decides
    file: str  # of its picture, relative to the folder of pictures
    cells: dict[str, Any]  # by role


def read_rows(options: TableOptions, columns: Columns, refusals: Refusals) -> Iterator[OwnRow]:
    """The rows of all tables, in their order; those with a fault are added to the refusals.

    Raises:
        InputError: a table as a whole cannot be read.
    """
    for table in options.tables:
        for row in read_table(table.path, has_header=not options.no_header):
            try:
                yield _own(row, table, options, columns)
            except Fault as fault:
                refusals.add(row.place, fault)


def _own(row: TableRow, table: SplitTable, options: TableOptions, columns: Columns) -> OwnRow:
    if isinstance(row.cells, Fault):
        raise row.cells
    cells = columns.cells(row.cells, row.place.file)
    if "image" not in cells:
        raise Fault("no picture")
    splits = [split_name(text_of(name)) for name in (table.split, row.split, cells.get("split")) if name is not None]
    if len(set(splits)) > 1:
        raise Fault("another split than its table's", " and ".join(splits))
    beside = Path(table.path).parent
    return OwnRow(row.place, splits[0] if splits else None, options.pictures.named(cells["image"], beside), cells)


def splits_of(rows: Sequence[OwnRow], options: TableOptions, refusals: Refusals) -> dict[Place, str]:
    """The split of each row: the one that it names; or one drawn for its picture, where no row names any.

    Rows that name none while others do are added to the refusals.

    Raises:
        InputError: shares are asked for though rows name splits, or there are too few pictures to divide.
    """
    if not any(row.split for row in rows):
        split_of = draw((row.file for row in rows), options.shares, options.seed)
        return {row.place: split_of[row.file] for row in rows}
    if any(share is not None for share in options.shares.values()):
        raise InputError("--val-share and --test-share divide pictures that have no split; here rows name theirs")
    found = {}
    for row in rows:
        if row.split:
            found[row.place] = row.split
        else:
            refusals.add(row.place, Fault("no split, which other rows have"))
    return found


def in_several_splits(splits: Mapping[str, Iterable[str]]) -> list[str]:
    """A warning about each two splits that share pictures.

    Args:
        splits: split -> the files of its pictures.
    """
    sets = {split: set(files) for split, files in splits.items()}
    shared = {(one, other): sets[one] & sets[other] for one, other in itertools.combinations(sets, 2)}
    return [
        f"{len(files):,} pictures are both in {one} and in {other}, e.g. {min(files)}: what is measured on one of them "
        "is not about new pictures"
        for (one, other), files in shared.items()
        if files
    ]
