"""What is to be done to bring an index up to date: what is there already, and what must be read."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.picture_folder import SUFFIXES, PictureFile, find_pictures
from vl_absvit.errors import InputError
from vl_absvit.search.index_folder import BAD, INDEX, Index, read_bad, read_index
from vl_absvit.search.segments import SUFFIXES as SEGMENT_SUFFIXES
from vl_absvit.search.segments import Layout, Row, names_in, read_rows, recover, remove

log = logging.getLogger(__name__)

MISNAMED = "the name is not in UTF-8; rename it"


class Plan(NamedTuple):
    """What there is to do."""

    segments: list[tuple[str, list[Row]]]  # that are there, whole, those of an interrupted run among them
    todo: list[str]  # files to read
    bad: dict[PictureFile, str]  # pictures that cannot be used, as an earlier run has found
    others: int  # files that are not named like pictures
    next_number: int  # of a segment
    approximate: dict[str, Any] | None  # about the file of FAISS, of an earlier run


def make_plan(root: Path, output: Path, layout: Layout) -> Plan:
    """What there is to do; segments that nothing can be made of are removed.

    Args:
        root: folder of the pictures.
        output: that of the index, which exists.

    Raises:
        InputError: ``output`` holds something else or another index, or there are no pictures.
    """
    index = _existing(output, layout)
    listed = {} if index is None else dict(index.segments)
    found = find_pictures(root)
    if not found.pictures:
        others = f", but {found.others:,} other files" if found.others else ""
        raise InputError(f"{root}: there are no pictures{others}; expected names that end in {', '.join(SUFFIXES)}")
    names = sorted(names_in(output))
    segments = [(name, read_rows(output, name, rows)) for name, rows in listed.items()]
    segments += _of_interrupted_runs(output, layout, [name for name in names if name not in listed])
    there = {row.picture for _, rows in segments for row in rows}
    current = set(found.pictures)
    bad = {picture: reason for picture, reason in read_bad(output).items() if picture in current - there}
    todo = [picture.file for picture in found.pictures if picture not in there and picture not in bad]
    bad |= dict.fromkeys(found.misnamed, MISNAMED)
    last = max((int(name) for name in names if name.isdecimal()), default=-1)
    return Plan(segments, todo, bad, found.others, last + 1, None if index is None else index.approximate)


def _existing(output: Path, layout: Layout) -> Index | None:
    """The index that is there, finished."""
    if (output / INDEX).is_file():
        index = read_index(output)
        if index.layout != layout:
            raise InputError(
                f"{output}: holds an index of another checkpoint or precision; choose another --output, or remove it"
            )
        return index
    for file in output.iterdir():
        if not file.name.startswith(".") and file.name != BAD and file.suffix not in SEGMENT_SUFFIXES:
            raise InputError(f"{output}: has {file.name} in it and is no index of pictures; choose another --output")
    return None


def _of_interrupted_runs(output: Path, layout: Layout, names: list[str]) -> list[tuple[str, list[Row]]]:
    segments = []
    for name in names:
        rows = recover(output, name, layout)
        if rows is None:
            remove(output, name)
        else:
            segments.append((name, rows))
    if number := sum(len(rows) for _, rows in segments):
        log.info("going on: %s pictures of an interrupted run are in %s", f"{number:,}", output)
    return segments
