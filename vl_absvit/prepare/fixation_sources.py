"""Eye fixations as people publish them, one row after the other.

A row is a fixation: the name of its picture, of its observer, its number among that observer's in the picture, and its
place in pixels, counted from 0. Forms:

- a table of one's own (CSV, TSV, JSON Lines, Parquet ...) with the columns image, observer, x, y and perhaps t;
- OSIE's ``fixations.mat``: a cell of structs ``img``, ``subjects``, the latter a cell of structs ``fix_x``, ``fix_y``;
- a folder of matrices ``*.mat``, one for each picture, that are not 0 at fixated pixels (CAT2000's ``FIXATIONLOCS``);
- a folder of pictures ``*_fixPts.*``, which are white at fixated pixels (MIT1003's ``ALLFIXATIONMAPS``).

The last two know neither observers nor an order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vl_absvit.data.bounded import check_ordinary
from vl_absvit.data.picture_folder import SUFFIXES
from vl_absvit.data.rgb import MAX_PIXELS, open_rgb
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError, one_line
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.table_rows import read_table

MAX_MATLAB_BYTES = 512 << 20
"""Largest ``.mat`` file. All of OSIE's fixations take 2 MB, those of CAT2000 a few hundred."""
POINTS = "_fixPts"
WHITE = 128
"""Grey value from which on a pixel counts as fixated: JPEG blurs the dots."""
COLUMNS = ("image", "observer", "x", "y")
_HDF5 = b"\x89HDF"


class Fixation(NamedTuple):
    """A fixation."""

    image: str  # the end of its picture's path, perhaps without suffix
    observer: str | None  # None where nobody knows
    number: int | None  # from 0 on, in the order of looking; None where nobody knows
    x: float
    y: float
    time: float | None = None  # as the source has it


def read_fixations(place: Path, empty: Counter[str]) -> Iterator[Fixation]:
    """All fixations of a file or folder.

    Args:
        empty: receives the number of observers without a fixation, by picture.

    Raises:
        InputError: it has none of the forms above, or a part of it is wrong.
    """
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    if place.is_dir() and not (place / "dataset_info.json").is_file():
        return _read_folder(place)
    if place.suffix.lower() == ".mat":
        return _read_osie(place, empty)
    return _read_table(place)


def files_of(place: Path) -> list[Path]:
    """The files that ``read_fixations`` reads of a place that exists."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))


def _read_table(path: Path) -> Iterator[Fixation]:
    """The rows of a table; an observer's rows about a picture are in the order of ``t``, or else of the table."""
    rows = []
    for row in read_table(path):
        if isinstance(row.cells, Fault):
            raise InputError(f"{row.place}: {row.cells.found or row.cells.reason}")
        missing = [column for column in COLUMNS if column not in row.cells]
        if missing:
            raise InputError(
                f"{row.place}: expected the columns {', '.join(COLUMNS)} and perhaps t, got {shown(list(row.cells))}"
            )
        image = _name(row.cells["image"], "the name of a picture under 'image'", str(row.place))
        observer = _name(row.cells["observer"], "who looked under 'observer'", str(row.place))
        x, y = (_number(row.cells[column], column, str(row.place)) for column in ("x", "y"))
        given = row.cells.get("t")
        time = None if given is None or str(given).strip() == "" else _number(given, "t", str(row.place))
        rows.append(Fixation(image, observer, None, x, y, time))
    if any(row.time is None for row in rows) and any(row.time is not None for row in rows):
        raise InputError(f"{path}: some rows have a time under 't' and some have none")
    if rows and rows[0].time is not None:
        rows.sort(key=lambda row: (row.image, row.time or 0.0))
    return _numbered(rows)


def _numbered(rows: Iterable[Fixation]) -> Iterator[Fixation]:
    """Rows in their observers' order with their numbers."""
    times: Counter[tuple[str, str | None]] = Counter()
    for row in rows:
        yield row._replace(number=times[row.image, row.observer])
        times[row.image, row.observer] += 1


def _name(value: Any, expected: str, place: str) -> str:
    """A cell as a name; raises ``InputError`` if it is neither a text nor a number."""
    if type(value) not in (str, int, float):
        raise InputError(f"{place}: expected {expected}, got {shown(value)}")
    if not (name := str(value).strip()):
        raise InputError(f"{place}: expected {expected}, got nothing")
    return name


def _number(value: Any, column: str, place: str) -> float:
    """A cell as a number; raises ``InputError`` if it is none, or a time without end."""
    try:
        if isinstance(value, bool) or "_" in str(value):  # Python takes both for numbers
            raise ValueError("no number")
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: expected a number under {column!r}, got {shown(value)}") from error
    if column == "t" and not isfinite(number):
        raise InputError(f"{place}: expected a finite number under 't', got {number}")
    return number


def _read_osie(path: Path, empty: Counter[str]) -> Iterator[Fixation]:
    form = "a cell 'fixations' of structs with img and subjects, as OSIE's"
    records = _load_matlab(path).get("fixations")
    if records is None:
        raise InputError(f"{path}: expected {form}")
    for record in _each(records):
        subjects, image = getattr(record, "subjects", None), getattr(record, "img", None)
        if subjects is None or not isinstance(image, str):
            raise InputError(f"{path}: expected {form}")
        for observer, subject in enumerate(_each(subjects)):
            try:
                x, y = (np.asarray(getattr(subject, name), dtype=float).ravel() for name in ("fix_x", "fix_y"))
            except (AttributeError, ValueError, TypeError) as error:
                raise InputError(f"{path}: {image}: expected numbers fix_x and fix_y of each subject") from error
            if len(x) != len(y):
                raise InputError(f"{path}: {image}: subject {observer + 1} has {len(x)} fix_x and {len(y)} fix_y")
            empty[image] += not len(x)
            for number, (across, down) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
                yield Fixation(image, f"{observer + 1}", number, across, down)


def _each(values: Any) -> list[Any]:
    """The parts of a cell; one with a single part has been squeezed."""
    return list(values.ravel()) if isinstance(values, np.ndarray) else [values]


def _read_folder(folder: Path) -> Iterator[Fixation]:
    files = files_of(folder)
    matrices = [file for file in files if file.suffix.lower() == ".mat"]
    points = [file for file in files if file.stem.endswith(POINTS) and file.suffix.lower() in SUFFIXES]
    if not matrices and not points:
        raise InputError(f"{folder}: expected matrices *.mat or pictures *{POINTS}.* of fixated pixels, found none")
    if matrices and points:
        raise InputError(f"{folder}: has both matrices *.mat and pictures *{POINTS}.*; give a folder of one kind")
    for file in matrices or points:
        inside = file.relative_to(folder).with_suffix("").as_posix().removesuffix(POINTS)
        fixated = _matrix(file) != 0 if matrices else np.asarray(open_rgb(file).convert("L")) >= WHITE
        for row, column in zip(*np.nonzero(fixated), strict=True):
            yield Fixation(inside, None, None, column + 0.5, row + 0.5)


def _matrix(path: Path) -> np.ndarray:
    """The only matrix of a file."""
    found = [value for name, value in _load_matlab(path).items() if not name.startswith("__")]
    if any(hasattr(value, "DATA") for value in found):
        raise InputError(
            f"{path}: holds samples of gaze, as MIT1003's DATA does, and no fixations; give ALLFIXATIONMAPS, or a "
            "table of the fixations that its authors' checkFixations finds in them (docs/attention.md says how)"
        )
    arrays = [value for value in found if isinstance(value, np.ndarray)]
    matrices = [value for value in arrays if value.ndim == 2 and value.dtype.kind in "fiub"]
    if len(matrices) != 1:
        raise InputError(f"{path}: expected one matrix that is not 0 at fixated pixels, got {len(matrices)} matrices")
    return matrices[0]


def _load_matlab(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file up to version 7; nothing in it is run."""
    from scipy.io import loadmat, whosmat

    try:
        size = check_ordinary(path)
        if size > MAX_MATLAB_BYTES:
            raise ValueError(f"{size:,} bytes, the limit is {MAX_MATLAB_BYTES:,}")
        with path.open("rb") as stream:
            start = stream.read(516)
        if start.startswith(_HDF5) or start[512:].startswith(_HDF5):
            raise ValueError("version 7.3 is not read; save it with -v7 in MATLAB, or as a table")
        for name, shape, _ in whosmat(path):
            if np.prod([float(side) for side in shape]) > MAX_PIXELS:
                raise ValueError(f"{name} has the shape {shape}, the limit is {MAX_PIXELS:,} numbers")
        return loadmat(path, squeeze_me=True, struct_as_record=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (MemoryError, RecursionError) as error:
        raise InputError(f"{path}: expected a MATLAB file, got one that is too large or too deep") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # the reader may raise anything on a hostile file
        raise InputError(f"{path}: expected a MATLAB file: {one_line(error)}") from error
