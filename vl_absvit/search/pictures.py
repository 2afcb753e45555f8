"""The pictures of a folder, and what tells whether one has changed since it was read."""

import hashlib
import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.rgb import decode_rgb
from vl_absvit.data.transforms import ImageTransform
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


class ReadPicture(NamedTuple):
    """A picture that was read."""

    picture: PictureFile  # as it was just before
    sha256: str  # "" if it could not be read
    reason: str | None  # why it cannot be used


class ReadBatch(NamedTuple):
    """Some pictures, and those of them that the model is to look at."""

    read: list[ReadPicture]
    rows: list[int]  # of ``read``
    images: Tensor | None  # (rows, 3, H, W); None for no rows


class PictureReader:
    """Pictures as a data set that is loaded in batches."""

    def __init__(self, folder: Path, files: Sequence[str], known: Set[str], transform: ImageTransform) -> None:
        """
        Args:
            files: relative to ``folder``.
            known: digests of contents that need not be decoded.
        """
        self._folder, self._files, self._known, self._transform = folder, files, known, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[ReadPicture, Tensor | None]]:
        return [self._read(self._files[index]) for index in indices]

    def _read(self, file: str) -> tuple[ReadPicture, Tensor | None]:
        picture, sha256 = PictureFile(file, 0, 0), ""
        try:
            picture = picture_at(self._folder, file)
            content = read_picture(self._folder / file)
            sha256 = hashlib.sha256(content).hexdigest()
            image = None if sha256 in self._known else self._transform(decode_rgb(content))
            return ReadPicture(picture, sha256, None), image
        except OSError as error:
            return ReadPicture(picture, "", error.strerror or str(error)), None
        except InputError as error:
            return ReadPicture(picture, sha256, str(error)), None

    def collate(self, samples: Sequence[tuple[ReadPicture, Tensor | None]]) -> ReadBatch:
        rows = [row for row, (_, image) in enumerate(samples) if image is not None]
        images = [image for _, image in samples if image is not None]
        return ReadBatch([read for read, _ in samples], rows, torch.stack(images) if images else None)
