"""Read an attention export: ``index.jsonl``, and one archive of maps for each question, caption or picture.

Every line of the index is an object about one of them. ``EXPECTED`` says what it holds. The archive has one float grid
(h, w) for each kind of map, the part ``box`` of the original picture that the grids cover, and the picture's
``image_size``. Both are in pixels of the upright picture.
"""

import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vl_absvit.data.bounded import check_ordinary
from vl_absvit.data.raw_folder import is_same, size_of
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.looking.geometry import Box
from vl_absvit.looking.json_lines import read_json_lines
from vl_absvit.looking.own_texts import TextKind

IMAGE_FROM_HERE = "image_from_here"
"""Key of an index line: the picture's path relative to the export's folder, for exports that are moved with it."""
NOT_MAPS = ("box", "image_size")
"""Arrays of an archive that are no maps."""
MAIN_MAP = "prior_mask"
MAX_ARCHIVE_BYTES = 256 << 20
"""Largest archive of one text's maps, unpacked. Grids of 64 x 64 cells take a megabyte."""
PIXELS_APART = 0.5
"""Largest difference between the boxes of index and archive. The archive's is rounded to float32."""


@dataclass(frozen=True, kw_only=True)
class ExportedText:
    """A question or caption, or a picture alone, and where the model looked."""

    id: str
    image_id: int | None  # None for a picture that is not of a data set
    image: Path  # the picture's file
    image_size: tuple[int, int]  # width and height of the upright picture
    box: Box  # part of the picture that the maps cover
    maps: dict[str, np.ndarray]  # kind -> (h, w)


@dataclass(frozen=True, kw_only=True)
class ExportedQuestion(ExportedText):
    """One question and the model's answer."""

    question_id: int | None  # None for a question that is not of a data set
    question: str
    prediction: str
    confidence: float  # probability of the prediction, in [0, 1]
    answers: tuple[str, ...] | None  # of people; None if they are not known
    answer_type: str | None
    accuracy: float | None  # of the prediction, in percent


@dataclass(frozen=True, kw_only=True)
class ExportedCaption(ExportedText):
    """One caption and how well it matches by the model's judgement."""

    caption_id: int | None  # None for a caption that is not of a data set
    caption: str
    match: float  # probability that caption and picture belong together, in [0, 1]
    score: float  # retrieval ranks by it


@dataclass(frozen=True, kw_only=True)
class ExportedPicture(ExportedText):
    """One picture and its class by the model's judgement."""

    picture: str  # its path below the folder that was exported
    prediction: str
    confidence: float  # probability of the class, in [0, 1]


Exported = ExportedQuestion | ExportedCaption | ExportedPicture
_RECORDS: dict[TextKind, type[Exported]] = {
    "question": ExportedQuestion,
    "caption": ExportedCaption,
    "picture": ExportedPicture,
}

Field = tuple[str, Callable[[Any], bool]]
"""The expected value, in words and as a test."""
_INTEGER: Field = ("an integer", lambda value: type(value) is int)
_TEXT: Field = ("a string", lambda value: isinstance(value, str))
_NUMBER: Field = ("a number", lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max)
_FILE_NAME: Field = (
    "the name of a file beside the index",
    lambda value: (
        isinstance(value, str) and "\0" not in value and value not in ("", "..") and value == Path(value).name
    ),
)


def _number_to(most: int) -> Field:
    return f"a number from 0 to {most}", lambda value: _NUMBER[1](value) and 0 <= value <= most


def _or_null(field: Field) -> Field:
    form, is_right = field
    return f"{form} or null", lambda value: value is None or is_right(value)


def _are(values: object, count: int | None, field: Field) -> bool:
    """Whether a value is a list of values as ``field`` expects them, of this length or, with None, of any above 0."""
    return isinstance(values, list) and len(values) == (count or len(values) or 1) and all(map(field[1], values))


_OF_ALL = {
    "id": _TEXT,
    "image_id": _or_null(_INTEGER),
    "image": _TEXT,
    "image_size": ("two positive integers", lambda value: _are(value, 2, _INTEGER) and min(value) > 0),
    "box": (
        "four numbers x0 < x1, y0 < y1",
        lambda value: _are(value, 4, _NUMBER) and value[0] < value[2] and value[1] < value[3],
    ),
    "npz": _FILE_NAME,
}
_OF_QUESTIONS = {
    "question_id": _or_null(_INTEGER),
    "question": _TEXT,
    "prediction": _TEXT,
    "confidence": _number_to(1),
    "answers": _or_null(("a list of strings, not empty,", lambda value: _are(value, None, _TEXT))),
    "answer_type": _or_null(_TEXT),
    "accuracy": _or_null(_number_to(100)),
}
_OF_CAPTIONS = {"caption_id": _or_null(_INTEGER), "caption": _TEXT, "match": _number_to(1), "score": _NUMBER}
_OF_PICTURES = {"picture": _TEXT, "prediction": _TEXT, "confidence": _number_to(1)}
EXPECTED: dict[TextKind, dict[str, Field]] = {
    "question": _OF_ALL | _OF_QUESTIONS,
    "caption": _OF_ALL | _OF_CAPTIONS,
    "picture": _OF_ALL | _OF_PICTURES,
}
"""Fields of an index line."""


def read_index(folder: str | Path, kind: TextKind | None = None) -> list[dict[str, Any]]:
    """Read and check every line of an export's index.

    Args:
        kind: the expected kind of texts; None accepts all.

    Raises:
        InputError: the index is missing or empty, a line is not as ``EXPECTED`` says, or an id comes twice.
    """
    path = Path(folder) / "index.jsonl"
    if not path.exists():
        raise InputError(f"{path}: no such file; see vl-absvit export-attention")
    place_of: dict[str, str] = {}
    entries: list[dict[str, Any]] = []
    for number, entry in read_json_lines(path):
        place = f"{path}:{number}"
        found = kind_of(entries[0] if entries else entry)
        if kind not in (None, found):
            raise InputError(f"{path}: expected an export of {kind}s, got one of {found}s")
        for name, (form, is_right) in EXPECTED[found].items():
            if name not in entry:
                raise InputError(f"{place}: expected {form} under {name!r}, got no such key")
            if not is_right(entry[name]):
                raise InputError(f"{place}: expected {form} under {name!r}, got {shown(entry[name])}")
        earlier = place_of.setdefault(entry["id"], place)
        if earlier != place:
            raise InputError(f"{place}: the id {entry['id']!r} is also that of {earlier}")
        entries.append(entry)
    if not entries:
        raise InputError(f"{path}: expected a line per question, caption or picture, got none")
    return entries


def kind_of(entry: Mapping[str, Any]) -> TextKind:
    """What a line of an index is about."""
    if "picture" in entry and not {"question", "caption"} & set(entry):
        return "picture"
    return "caption" if "caption" in entry and "prediction" not in entry else "question"


def read_exported(folder: str | Path, entry: dict[str, Any], images: str | Path | None = None) -> Exported:
    """Read a question, caption or picture of the index with its maps.

    Args:
        images: folder that has the picture under the last parts of its path; None uses the paths of the index.

    Raises:
        InputError: the archive or the picture's file is missing, damaged, or about another picture.
    """
    folder = Path(folder)
    maps = read_maps(folder, entry)
    image = _find_picture(folder, entry, images)
    record = _RECORDS[kind_of(entry)]
    values = {field.name: entry[field.name] for field in fields(record) if field.name in entry}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return record(**values | {"image": image, "maps": maps})


def _find_picture(folder: Path, entry: dict[str, Any], images: str | Path | None) -> Path:
    """The picture's file. Of several, the first one with the size that the index states, else the first."""
    if images is not None:
        parts = Path(entry["image"]).parts
        places = [Path(images, *parts[start:]) for start in range(1, len(parts))]
    else:
        from_here = entry.get(IMAGE_FROM_HERE)
        places = [Path(os.path.normpath(folder.resolve() / from_here))] if isinstance(from_here, str) else []
        places += [folder / entry["image"], Path(entry["image"])]
    existing = [place for place in places if place.is_file()]
    for place in existing:
        if is_same(size_of(place), entry["image_size"]):
            return place
    if not existing:
        hint = f" in {images}" if images is not None else "; if it was moved, say where with --images DIR"
        raise InputError(
            f"{folder / 'index.jsonl'}: {kind_of(entry)} {entry['id']}: there is no picture {entry['image']}{hint}"
        )
    return existing[0]


def read_maps(folder: str | Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the maps of an index line, by kind, (h, w) each.

    Raises:
        InputError: the archive is missing, damaged, or about another picture.
    """
    path = Path(folder) / entry["npz"]
    archive = _read_archive(path)
    for name in NOT_MAPS:
        _check_agrees(path, name, archive.get(name), entry[name])
    return {name: grid for name, grid in archive.items() if name not in NOT_MAPS}


def check_kinds(maps: Mapping[str, np.ndarray], kinds: Sequence[str], file: Path, *, only: bool) -> None:
    """Refuse a record without one of the maps; with ``only``, also one with more, which nobody would hear of."""
    if not set(kinds) <= set(maps) or (only and set(kinds) != set(maps)):
        raise InputError(f"{file}: expected the maps {', '.join(kinds)}, got {', '.join(maps) or 'none'}")


def main_map(kinds: Sequence[str]) -> str:
    """The map in a comparison's headline: ``MAIN_MAP`` if it is compared, else the first one."""
    return MAIN_MAP if MAIN_MAP in kinds else kinds[0]


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        check_ordinary(path)
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a single array")
        with archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            if size > MAX_ARCHIVE_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes, the limit is {MAX_ARCHIVE_BYTES:,}")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except MemoryError as error:  # the header claims a shape far larger than the file
        raise InputError(f"{path}: expected an archive of maps, got arrays too large for memory") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, SyntaxError, RecursionError) as error:
        raise InputError(f"{path}: expected an archive of maps: {error}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise InputError(f"{path}: {name} is not made of finite numbers")
        if name not in NOT_MAPS and (array.ndim != 2 or array.size == 0):
            raise InputError(f"{path}: expected a grid (h, w) under {name}, got the shape {array.shape}")
    if not arrays.keys() - set(NOT_MAPS):
        raise InputError(f"{path}: expected at least one map, got none")
    return arrays


def _check_agrees(path: Path, name: str, found: np.ndarray | None, expected: Sequence[float]) -> None:
    """Refuse an archive that belongs to another run or picture than the index."""
    if found is None or found.shape != (len(expected),) or np.abs(found - np.asarray(expected)).max() > PIXELS_APART:
        got = "nothing" if found is None else found.tolist()
        raise InputError(f"{path}: expected the {name} {list(expected)} of index.jsonl, got {got}")
