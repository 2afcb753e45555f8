"""The rows of segments that count: those of pictures as they are now, each once."""

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.search.segments import MOST_BYTES, Layout, Row, Segment, SegmentWriter, open_vectors

MOST_SMALL = 8
"""Segments below a quarter of their full size that may stand; more of them are joined."""
ROWS_AT_ONCE = 256


class _Live(NamedTuple):
    name: str
    rows: list[Row]
    kept: list[int]  # of ``rows``


def keep_live(
    output: Path, layout: Layout, segments: Sequence[tuple[str, list[Row]]], current: Set[PictureFile], number: int
) -> list[Segment]:
    """Segments of live rows alone. Those that lost rows are written anew, and so are small ones, together, when there
    are many; the old files stay for those who are reading them.

    Args:
        current: the pictures as they are.
        number: of the next segment.
    """
    live = list(_find_live(segments, current))
    small = {each.name for each in live if 4 * len(each.kept) * layout.row_bytes < MOST_BYTES}
    joined = small if len(small) > MOST_SMALL else set()
    left = [each for each in live if len(each.kept) == len(each.rows) and each.name not in joined]
    done = [Segment(each.name, len(each.rows)) for each in left]
    writer: SegmentWriter | None = None
    for each in live:
        if each in left:
            continue
        vectors = open_vectors(output, each.name, len(each.rows), layout)
        for start in range(0, len(each.kept), ROWS_AT_ONCE):
            if writer is None:
                writer, number = SegmentWriter(output, f"{number:06d}", layout), number + 1
            chosen = each.kept[start : start + ROWS_AT_ONCE]
            writer.add([each.rows[row] for row in chosen], vectors[chosen])
            if writer.is_full:
                done.append(writer.close())
                writer = None
    return done if writer is None else [*done, writer.close()]


def _find_live(segments: Sequence[tuple[str, list[Row]]], current: Set[PictureFile]) -> Iterator[_Live]:
    taken: set[PictureFile] = set()
    for name, rows in segments:
        kept = []
        for number, row in enumerate(rows):
            if row.picture in current and row.picture not in taken:
                taken.add(row.picture)
                kept.append(number)
        yield _Live(name, rows, kept)
