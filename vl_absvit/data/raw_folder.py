"""Where the raw pictures of a prepared folder are: as they lay beside it, where they were, or where one says.

A manifest tells the place twice: from the prepared folder, so that a tree of both can be moved or mounted elsewhere,
and from the root of the file system, so that the prepared folder alone can. Of two places, pictures of the sizes that
were prepared tell the right one.
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
"""Keys of a manifest; an earlier version wrote the first alone."""


class Picture(NamedTuple):
    """A picture as it was prepared."""

    file: str  # relative to the raw folder
    size: tuple[int, int]  # width and height in pixels, upright


def place_of(raw: Path, prepared: Path) -> dict[str, str]:
    """What a manifest tells of the raw folder."""
    return {ROOT: str(raw.resolve()), FROM_HERE: os.path.relpath(raw.resolve(), prepared.resolve())}


def find_raw(
    prepared: Path, manifest: Mapping[str, Any], pictures: Sequence[Picture], given: str | Path | None = None
) -> Path:
    """The folder that has the pictures.

    Args:
        pictures: some of those that were prepared.
        given: look there and nowhere else.

    Raises:
        InputError: none of the folders has one of them; says what was tried and which option helps.
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
    """Width and height that a picture's header tells, in whatever order; None for what is there but cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        check_ordinary(file)
        with Image.open(file, formats=FORMATS) as picture:
            return picture.size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(file)) from error
    except Exception:  # a decoder may raise anything on a hostile file; the one who needs the picture will say what
        return None


def is_same(size: tuple[int, int] | None, expected: Sequence[int]) -> bool:
    """Whether a picture has the expected sides; one that lies on its side in the file has them the other way round."""
    return size is not None and sorted(size) == sorted(expected)


def _has(folder: Path, pictures: Sequence[Picture]) -> bool:
    """Whether the folder has one of the pictures; damaged ones count where no other picture is in their place."""
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
