"""Find the raw pictures of a prepared folder.

A manifest holds their place twice. The path relative to the prepared folder stays right when a tree of both is moved or
mounted elsewhere; the absolute path stays right when the prepared folder alone is moved. The right one of two places
has pictures of the sizes found at preparation.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from vl_absvit.data.bounded import check_ordinary
from vl_absvit.data.rgb import FORMATS
from vl_absvit.errors import InputError

ROOT, FROM_HERE = "root", "root_from_here"
"""Keys of a manifest. An earlier version wrote only the first."""


class Picture(NamedTuple):
    """A picture and its size at preparation."""

    file: str  # relative to the raw folder
    size: tuple[int, int]  # width and height in pixels, upright


def place_of(raw: Path, prepared: Path) -> dict[str, str]:
    """The manifest's entries about the raw folder."""
    return {ROOT: str(raw.resolve()), FROM_HERE: os.path.relpath(raw.resolve(), prepared.resolve())}


def find_raw(
    prepared: Path, manifest: Mapping[str, Any], pictures: Sequence[Picture], given: str | Path | None = None
) -> Path:
    """The folder that has the pictures.

    Args:
        pictures: some of the prepared pictures.
        given: the only folder to try, if given.

    Raises:
        InputError: none of the folders has one of them; the message says what was tried and which option helps.
    """
    if given is not None:
        tried = [Path(given)]
    else:
        tried = [prepared.resolve() / manifest[FROM_HERE]] if isinstance(manifest.get(FROM_HERE), str) else []
        tried = list(dict.fromkeys(Path(os.path.normpath(folder)) for folder in (*tried, manifest[ROOT])))
    for folder in tried:
        if _has(folder, pictures):
            return folder
    reasons = " nor ".join(f"{folder}, {_lack(folder, pictures[0])}" for folder in tried)
    raise InputError(
        f"{prepared}: its pictures are not in {reasons}; say where they are with --data.images DIR in training, "
        "--images DIR elsewhere"
    )


def size_of(file: Path) -> tuple[int, int] | None:
    """Width and height in a picture's header, in either order; None for a file that cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        check_ordinary(file)
        with Image.open(file, formats=FORMATS) as picture:
            return picture.size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(file)) from error
    except Exception:  # a decoder may raise anything on a hostile file; loading the picture will report it
        return None


def is_same(size: tuple[int, int] | None, expected: Sequence[int]) -> bool:
    """Whether a picture has the expected sides, in either order: a file may hold it rotated."""
    return size is not None and sorted(size) == sorted(expected)


def _has(folder: Path, pictures: Sequence[Picture]) -> bool:
    """Whether the folder has one of the pictures. Unreadable files count if no file is another picture."""
    is_there, is_other = False, False
    for file, expected in pictures:
        try:
            size = size_of(folder / file)
        except FileNotFoundError:
            continue
        if is_same(size, expected):
            return True
        is_there, is_other = True, is_other or size is not None
    return is_there and not is_other


def _lack(folder: Path, picture: Picture) -> str:
    if not folder.is_dir():
        return "which does not exist"
    try:
        width, height = size_of(folder / picture.file) or (0, 0)
    except FileNotFoundError:
        return f"which has no {picture.file}"
    return f"whose {picture.file} has {width} x {height} pixels and not {picture.size[0]} x {picture.size[1]}"
