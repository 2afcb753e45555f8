"""The files of pictures that a table names: below one folder, never outside it."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from vl_absvit.data.strict_json import shown
from vl_absvit.prepare.coco_images import DEPTH, walk_pictures
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.values import text_of

_LONGEST_NAME = 255  # bytes
_NUMBER = re.compile(r"(?:COCO_[a-z]+20[0-9]{2}_)?0*([0-9]{1,18})")


class OwnPictures:
    """Pictures below a folder. A name is a path below it, or below the table's folder; or a picture's name alone.

    A picture whose name alone is given may lie in any folder below. An id is the name without its ending, and numbers
    may have leading zeros there. What several pictures are called is nobody's name.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[tuple[str, Path], str] = {}

    def named(self, value: Any, beside: Path) -> str:
        """The file of a picture, relative to the folder. It may be missing.

        Args:
            value: what a table calls it.
            beside: the table's folder.

        Raises:
            Fault: this is no name of a file below the folder, or several files have it.
        """
        if isinstance(value, dict):
            raise Fault("a picture itself instead of its file's name")
        key = text_of(value), beside
        if key not in self._known:
            self._known[key] = self._named(*key)
        return self._known[key]

    def find(self, file: str) -> str | None:
        """A file as ``named`` gave it; None if it is missing."""
        return file if (self._root / file).exists() else None

    @property
    def has_pictures(self) -> bool:
        """Whether any picture is below the folder."""
        return bool(self._below)

    def looked_for(self, file: str) -> str:
        """Words about a missing file: where it was expected, and what is there."""
        example = min((file for files in self._below.values() for file in files), default=None)
        there = f"which has pictures such as {example}" if example else "where no picture is at all"
        words = f"looked for {file} in {self._root}, {there}"
        same = self._below.get(PurePosixPath(file).name, [])
        return f"{words}; {' and '.join(same[:2])} {'has' if len(same) == 1 else 'have'} this name" if same else words

    def _named(self, name: str, beside: Path) -> str:
        if "://" in name:
            raise Fault("an address instead of a file", shown(name))
        path = PurePosixPath(name)
        if "\\" in name and not self._is_there(path):
            path = PurePosixPath(name.replace("\\", "/"))
        if not path.name or any(len(part.encode("utf-8")) > _LONGEST_NAME for part in path.parts):
            raise Fault("no file's name for the picture", shown(name))
        inside = self._inside(Path(path))
        if ".." in path.parts or (path.is_absolute() and inside is None):
            raise Fault("a picture outside the folder of pictures", shown(name))
        if inside is not None:
            return inside
        if self._is_there(path):
            return str(path)
        if (beside / path).exists() and (inside := self._inside((beside / path).absolute())) is not None:
            return inside
        return self._searched(path) if len(path.parts) == 1 else str(path)

    def _inside(self, path: Path) -> str | None:
        """An absolute path relative to the folder, if it is inside; links are not followed."""
        roots = (root for root in (self._root.absolute(), self._root.resolve()) if path.is_relative_to(root))
        return next((str(path.relative_to(root)) for root in roots), None)

    def _is_there(self, path: PurePosixPath) -> bool:
        return not path.is_absolute() and ".." not in path.parts and (self._root / path).exists()

    def _searched(self, path: PurePosixPath) -> str:
        found = self._below.get(path.name) or self._by_stem.get(path.name, [])
        if not found and path.name.isascii() and path.name.isdigit():
            found = self._by_number.get(int(path.name), []) if len(path.name) <= 18 else []
        if len(found) > 1:
            raise Fault("a picture that is there several times", ", ".join(map(shown, found[:2])))
        return found[0] if found else str(path)

    @functools.cached_property
    def _below(self) -> dict[str, list[str]]:
        """Name -> files of this name, some levels deep."""
        files: dict[str, list[str]] = {}
        for folder, names in walk_pictures(self._root, depth=DEPTH):
            for name in names:
                files.setdefault(name, []).append(str(PurePosixPath(folder, name)))
        return files

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((PurePosixPath(file).stem, file) for files in self._below.values() for file in files)

    @functools.cached_property
    def _by_number(self) -> dict[int, list[str]]:
        numbers = ((_NUMBER.fullmatch(stem), files) for stem, files in self._by_stem.items())
        return _grouped((int(found[1]), file) for found, files in numbers if found for file in files)


def _grouped(pairs: Iterable[tuple[Any, str]]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for key, file in pairs:
        groups.setdefault(key, []).append(file)
    return groups
