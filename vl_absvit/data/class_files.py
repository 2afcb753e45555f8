"""The files of labelled images in one folder per class, by name."""

import hashlib
import json
import logging
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from vl_absvit.errors import InputError

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class ImageFiles:
    """Image files with their labels, folder after folder, by name within a folder.

    A million files take two buffers instead of a million objects. Buffers are small, and loader processes share them.

    Args:
        folders: folders and the labels of their images.
    """

    def __init__(self, folders: Iterable[tuple[Path, int]]) -> None:
        self._folders, self._firsts = list(folders), array("q")
        names, self._ends = bytearray(), array("q")  # all names in a row, and the end of each name
        others: list[Path] = []
        for folder, _ in self._folders:
            self._firsts.append(len(self._ends))
            images, rest = _names(folder)
            others += [folder / name for name in rest]
            for name in images:
                names += os.fsencode(name)
                self._ends.append(len(names))
        self._names = bytes(names)
        if others:
            log.warning("%d files are no images by their names and left out, e.g. %s", len(others), others[0])

    def content(self) -> str:
        """SHA-256 of the names and their labels, in order. It does not depend on paths or the files' content."""
        digest = hashlib.sha256(json.dumps([label for _, label in self._folders]).encode())
        for part in (self._firsts, self._ends, self._names):
            digest.update(bytes(part))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> tuple[Path, int]:
        place = range(len(self))[index]
        folder, label = self._folder_of(place)
        start = self._ends[place - 1] if place else 0
        return folder / os.fsdecode(self._names[start : self._ends[place]]), label

    def label(self, place: int) -> int:
        """Label of one image, in a fraction of the time that its path takes."""
        return self._folder_of(place)[1]

    def _folder_of(self, place: int) -> tuple[Path, int]:
        return self._folders[bisect_right(self._firsts, place) - 1]


def class_names(folder: Path) -> list[str]:
    """Names of the class folders, sorted."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one folder per class in it")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"{folder}: expected one folder per class, found none")
    return names


def image_files(folder: Path) -> list[Path]:
    """Image files of one class, sorted by name."""
    images, _ = _names(folder)
    return [folder / name for name in images]


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Names of one class's image files, and of all other files; both sorted, and hidden ones in neither."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # macOS leaves ._dog.jpg
    images = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    others = sorted(set(names).difference(images))
    if not images:
        raise InputError(f"{folder}: there is no image of this class")
    return images, others
