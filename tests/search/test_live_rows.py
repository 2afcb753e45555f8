"""Segments keep the rows of pictures that are there, and small ones become few."""

import numpy as np

from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.search.live_rows import MOST_SMALL, keep_live
from vl_absvit.search.segments import Layout, Row, SegmentWriter, open_vectors, read_rows

LAYOUT = Layout("x", 1, 4, "float32")


def write(folder, name, numbers):
    """A segment whose rows hold these numbers."""
    rows = [Row(PictureFile(f"{number}.png", number, 0), "") for number in numbers]
    writer = SegmentWriter(folder, name, LAYOUT)
    writer.add(rows, np.repeat(np.array(numbers, dtype=float), 4).reshape(-1, 1, 4))
    writer.close()
    return name, rows


def held(folder, segments):
    """Number -> what its vector holds."""
    found = {}
    for name, rows in segments:
        vectors = open_vectors(folder, name, rows, LAYOUT)
        found |= {
            row.picture.size: vector.ravel().tolist()
            for row, vector in zip(read_rows(folder, name, rows), vectors, strict=True)
        }
    return found


def test_a_segment_that_lost_rows_is_written_anew_and_a_whole_one_stands(tmp_path):
    segments = [write(tmp_path, "000000", [1, 2, 3]), write(tmp_path, "000001", [4, 3])]
    current = {PictureFile(f"{number}.png", number, 0) for number in (1, 2, 3, 4)}
    kept = keep_live(tmp_path, LAYOUT, segments, current, 2)
    assert kept == [("000000", 3), ("000002", 1)]
    assert held(tmp_path, kept) == {number: [number] * 4 for number in (1, 2, 3, 4)}
    assert keep_live(tmp_path, LAYOUT, segments, set(), 9) == []


def test_many_small_segments_are_joined(tmp_path):
    segments = [write(tmp_path, f"{number:06d}", [number]) for number in range(MOST_SMALL + 1)]
    current = {row.picture for _, rows in segments for row in rows}
    assert len(keep_live(tmp_path, LAYOUT, segments[1:], current, 20)) == MOST_SMALL
    kept = keep_live(tmp_path, LAYOUT, segments, current, 20)
    assert kept == [("000020", MOST_SMALL + 1)] and held(tmp_path, kept)[5] == [5] * 4
