"""Files of an index that hold vectors, row after row, and beside each a list of the pictures that the rows are about.

``NAME.vectors`` is plain numbers. ``NAME.rows`` has a line of JSON that says what they were made with, and one for each
row: path, size and time of the picture's file and the SHA-256 of its content. A row counts once its line is there. That
is written after the vectors are on the disk; so an interruption costs the rows of a batch, and damages none.
Shapes: R rows, V vectors of each, D width.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.picture_folder import PictureFile
from vl_absvit.errors import InputError

SUFFIXES = (".rows", ".vectors")
"""Of a segment's files."""
MOST_BYTES = 256 << 20
"""Size at which a segment is full."""


class Row(NamedTuple):
    """A picture in an index."""

    picture: PictureFile
    sha256: str  # of its content


class Layout(NamedTuple):
    """What all segments of an index have in common."""

    made_with: str  # tells other models, pools and precisions apart
    vectors: int  # V
    width: int  # D
    dtype: str  # as numpy names it

    @property
    def row_bytes(self) -> int:
        return self.vectors * self.width * np.dtype(self.dtype).itemsize


class Segment(NamedTuple):
    """A segment that is written."""

    name: str
    rows: int


class SegmentWriter:
    """A new segment, to which rows are added."""

    def __init__(self, folder: Path, name: str, layout: Layout) -> None:
        self.name, self.rows = name, 0
        self._layout = layout
        self._vectors = (folder / f"{name}.vectors").open("xb")
        self._lines = (folder / f"{name}.rows").open("x", encoding="utf-8")
        self._lines.write(json.dumps({"made_with": layout.made_with}) + "\n")
        self._lines.flush()

    @property
    def is_full(self) -> bool:
        return self.rows * self._layout.row_bytes >= MOST_BYTES

    def add(self, rows: Sequence[Row], vectors: np.ndarray) -> None:
        """Add pictures and their vectors (R, V, D)."""
        try:
            self._vectors.write(np.ascontiguousarray(vectors, dtype=self._layout.dtype).data)
            self._vectors.flush()
            os.fsync(self._vectors.fileno())
            self._lines.writelines(json.dumps([*row.picture, row.sha256]) + "\n" for row in rows)
            self._lines.flush()
        except OSError as error:
            raise InputError(f"{self._vectors.name}: cannot be written: {error.strerror or error}") from error
        self.rows += len(rows)

    def close(self) -> Segment:
        """End the segment; its rows are on the disk."""
        os.fsync(self._lines.fileno())
        self._vectors.close()
        self._lines.close()
        return Segment(self.name, self.rows)


def recover(folder: Path, name: str, layout: Layout) -> list[Row] | None:
    """The whole rows of a segment that an interruption left. Its files are cut to these; None if it has none."""
    lines, vectors = folder / f"{name}.rows", folder / f"{name}.vectors"
    whole = lines.read_bytes().split(b"\n")[:-1] if lines.is_file() else []
    if not whole or not vectors.is_file() or _header(whole[0]) != layout.made_with:
        return None
    kept = whole[: 1 + vectors.stat().st_size // layout.row_bytes]
    try:
        rows = [_row(line) for line in kept[1:]]
    except ValueError:
        return None
    if not rows:
        return None
    os.truncate(lines, sum(len(line) + 1 for line in kept))
    os.truncate(vectors, len(rows) * layout.row_bytes)
    return rows


def read_rows(folder: Path, name: str, number: int) -> list[Row]:
    """The pictures of a segment of ``number`` rows.

    Raises:
        InputError: its list is missing or damaged.
    """
    return [_row_of(line, folder / f"{name}.rows") for line in _row_lines(folder, name, number)]


def pictures_of(folder: Path, name: str, number: int, rows: Sequence[int]) -> list[PictureFile]:
    """The pictures of some rows of a segment of ``number`` rows.

    Raises:
        InputError: its list is missing or damaged.
    """
    lines = _row_lines(folder, name, number)
    return [_row_of(lines[row], folder / f"{name}.rows").picture for row in rows]


def open_vectors(folder: Path, name: str, number: int, layout: Layout) -> np.ndarray:
    """The vectors of a segment of ``number`` rows, in the file itself, (R, V, D).

    Raises:
        InputError: the file is missing or has another size.
    """
    path, expected = folder / f"{name}.vectors", number * layout.row_bytes
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if size != expected:
        raise _damaged(path, f"expected {expected:,} bytes, got {size:,}")
    return np.memmap(path, dtype=layout.dtype, mode="c", shape=(number, layout.vectors, layout.width))


def remove(folder: Path, name: str) -> None:
    """Remove a segment's files."""
    for suffix in SUFFIXES:
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def names_in(folder: Path) -> set[str]:
    """Names of the segments of which a folder has a file, whole or not."""
    return {file.stem for file in folder.iterdir() if file.suffix in SUFFIXES}


def _row_lines(folder: Path, name: str, number: int) -> list[bytes]:
    path = folder / f"{name}.rows"
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if len(lines) != number + 2 or lines[-1]:
        raise _damaged(path, f"expected {number:,} rows, got {max(0, len(lines) - 2):,}")
    return lines[1:-1]


def _header(line: bytes) -> str | None:
    try:
        return json.loads(line)["made_with"]
    except (ValueError, TypeError, KeyError):
        return None


def _row(line: bytes) -> Row:
    """Raises ``ValueError`` where the line is no row."""
    file, size, modified, sha256 = json.loads(line)
    if not (isinstance(file, str) and isinstance(sha256, str) and type(size) is type(modified) is int):
        raise ValueError("no row")
    return Row(PictureFile(file, size, modified), sha256)


def _row_of(line: bytes, path: Path) -> Row:
    try:
        return _row(line)
    except (ValueError, TypeError) as error:
        raise _damaged(path, "a line is no row") from error


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: {reason}: the index is damaged; remove its folder and make it again")
