"""The pictures below a folder."""

import os
from pathlib import Path
from typing import NamedTuple

from vl_absvit.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""Names of pictures, in either case; what a file holds is decided by its content."""


class PictureFile(NamedTuple):
    """A picture's file as it is now."""

    file: str  # path relative to the folder
    size: int  # bytes
    modified: int  # nanoseconds


class FoundPictures(NamedTuple):
    """What a folder holds."""

    pictures: list[PictureFile]  # by path
    misnamed: list[PictureFile]  # whose names no table can hold, as they can be shown
    others: int  # files that are not named like pictures


def find_pictures(folder: Path) -> FoundPictures:
    """All pictures below a folder. Links are followed; what has a name that begins with a dot is left out.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of pictures")
    found = FoundPictures([], [], 0)
    seen = set()  # links may lead in a circle
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = os.path.realpath(place)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(place, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() not in SUFFIXES:
                found = found._replace(others=found.others + 1)
                continue
            picture = picture_at(folder, path.relative_to(folder).as_posix())
            shown = os.fsencode(picture.file).decode("utf-8", "backslashreplace")
            if shown == picture.file:
                found.pictures.append(picture)
            else:
                found.misnamed.append(picture._replace(file=shown))
    found.pictures.sort()
    return found


def _refuse(error: OSError) -> None:
    raise error


def picture_at(folder: Path, file: str) -> PictureFile:
    """A picture's file as it is now.

    Raises:
        OSError: there is none.
    """
    status = (folder / file).stat()
    return PictureFile(file, status.st_size, status.st_mtime_ns)
