"""The pictures below a folder."""

import os
from collections.abc import Sequence
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


class PicturesByTail:
    """Pictures below a folder, found by the end of their path, with or without suffix: "Action/001", "1001.jpg"."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        """
        Args:
            files: paths of the pictures below ``root``.
        """
        self._root, self._files = root, files
        self._by_tail: dict[str, list[str]] = {}
        for file in files:
            parts = file.split("/")
            for start in range(len(parts)):
                tail = "/".join(parts[start:])
                for name in dict.fromkeys((tail, os.path.splitext(tail)[0])):
                    self._by_tail.setdefault(name, []).append(file)

    @property
    def has_pictures(self) -> bool:
        """Whether there is any picture below the folder."""
        return bool(self._files)

    def find(self, file: str) -> str | None:
        """Path of the picture relative to the folder; None if there is none.

        Raises:
            InputError: several pictures have this name.
        """
        found = self._by_tail.get(file.removeprefix("./"), [])
        exact = [path for path in found if file.removeprefix("./") in (path, os.path.splitext(path)[0])]
        found = exact if len(exact) == 1 else found
        if len(found) > 1:
            raise InputError(f"{self._root}: {file!r:.80} may be {found[0]} or {found[1]}; give the path below it")
        return found[0] if found else None

    def must_find(self, file: str) -> str:
        """The same; raises ``InputError`` also if there is none."""
        found = self.find(file)
        if found is None:
            raise InputError(f"{self._root}: there is no picture {file!r:.80}; {self.looked_for(file)}")
        return found

    def looked_for(self, file: str) -> str:
        """Words about a missing picture."""
        such = f"which has pictures such as {self._files[0]}" if self._files else "where no picture is at all"
        return f"looked for {file} in {self._root}, {such}"
