"""Find COCO's pictures by their ids, anywhere below a folder.

Names are ``COCO_train2014_000000000009.jpg`` in ``train2014``, or since 2017 ``000000000009.jpg`` in ``train2017``. The
release of 2017 has the same pictures under the same ids in other splits: most of ``val2014`` is in ``train2017``. The
folders may lie in the given folder or some levels below it (``images/``, ``coco/images/``, ``Images/mscoco/``), or one
folder may hold all pictures.
"""

import bisect
import functools
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

DEPTH = 4
"""Number of levels below the given folder that are searched."""
_NAME = re.compile(r"((?:COCO_(train|val|test)20[0-9]{2}_)?)([0-9]{12})(\.(?:jpe?g|png))", re.IGNORECASE)
_PICTURE = re.compile(r".+\.(?:jpe?g|png|gif|bmp|webp|tiff?)", re.IGNORECASE)
_USUAL_PLACES = ("", "images", "coco", "coco/images")


class _Alike(NamedTuple):
    """Pictures of one folder whose names differ only in the number."""

    folder: str  # relative to the root, "" for the root itself
    prefix: str  # "COCO_train2014_" or ""
    part: str | None  # train, val or test, if the names contain it
    suffix: str
    ids: array  # ascending

    def file(self, image_id: int) -> str | None:
        """The picture of this id, relative to the root."""
        place = bisect.bisect_left(self.ids, image_id)
        if place == len(self.ids) or self.ids[place] != image_id:
            return None
        name = f"{self.prefix}{image_id:012d}{self.suffix}"
        return f"{self.folder}/{name}" if self.folder else name


class CocoImages:
    """COCO's pictures below a folder, by id.

    Every folder is listed once, and no picture is opened. Memory holds eight bytes per picture.

    Attributes:
        has_pictures: whether any picture is below the folder, whatever its name.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stranger: str | None = None  # a picture without a name of COCO's
        self._groups: list[_Alike] = []
        self._folders = 0
        for folder, names in walk_pictures(root):
            self._folders += 1
            self._take(folder, names)
        self.has_pictures = bool(self._groups or self._stranger)
        self._in_order_for = functools.cache(self._order)

    def find(self, file: str) -> str | None:
        """Path of a picture relative to the root; None if there is none.

        The official name in the official folder comes before others. Names of another part do not count, such as val
        instead of train.

        Args:
            file: official name: "train2014/COCO_train2014_000000000009.jpg", see ``official_file``.
        """
        folder, prefix, image_id = _parse(file)
        for group in self._in_order_for(folder, prefix):
            if found := group.file(image_id):
                return found
        return None

    def looked_for(self, file: str) -> str:
        """Words about a missing picture: the places that were searched, other pictures there, and a fitting folder.

        Args:
            file: official name of a picture that was not found.
        """
        folder, prefix, image_id = _parse(file)
        number = f"{image_id:012d}.jpg"
        names = f"{prefix}{number} (image {image_id})" + (f" or {number}" if prefix else "")
        words = f"looked for {names} in {self._root} and {self._folders - 1:,} folders below it ({DEPTH} levels)"
        example = self._stranger or next((group.file(group.ids[0]) for group in self._groups), None)
        words += f", which have pictures such as {example}" if example else ", where no picture is at all"
        fitting = _fitting_nearby(self._root, folder, image_id)
        return f"{words}; {fitting} would fit" if fitting else words

    def _take(self, folder: str, names: list[str]) -> None:
        alike: dict[tuple[str, str], array] = {}
        for name in names:
            if found := _NAME.fullmatch(name):
                alike.setdefault((found[1], found[4]), array("q")).append(int(found[3]))
            elif self._stranger is None:
                self._stranger = str(PurePosixPath(folder, name))
        for (prefix, suffix), ids in sorted(alike.items()):
            self._groups.append(_Alike(folder, prefix, _part(prefix), suffix, array("q", sorted(ids))))

    def _order(self, folder: str, prefix: str) -> list[_Alike]:
        """The groups that may hold a picture of this folder and prefix. Official names come first."""

        def strangeness(group: _Alike) -> tuple[bool, bool, int]:
            return group.prefix != prefix, PurePosixPath(group.folder).name != folder, group.folder.count("/")

        fitting = [
            group for group in self._groups if None in (group.part, _part(prefix)) or group.part == _part(prefix)
        ]
        return sorted(fitting, key=strangeness)


def official_file(folder: str, image_id: int) -> str:
    """Official name of a picture: ``val2014/COCO_val2014_000000000042.jpg``, ``val2017/000000000139.jpg``."""
    prefix = "" if folder.endswith("2017") else f"COCO_{folder}_"
    return f"{folder}/{prefix}{image_id:012d}.jpg"


def is_named_as_cocos(file: str) -> bool:
    """Whether a file has the name of one of COCO's pictures, which contains its id."""
    return _NAME.fullmatch(PurePosixPath(file).name) is not None


def _parse(file: str) -> tuple[str, str, int]:
    """Folder, prefix and id of an official name."""
    folder, _, name = file.rpartition("/")
    found = _NAME.fullmatch(name)
    assert found, f"{file} is no name of COCO's"
    return folder.rpartition("/")[2], found[1], int(found[3])


def _part(prefix: str) -> str | None:
    found = re.match(r"COCO_(train|val|test)", prefix, re.IGNORECASE)
    return found and found[1].lower()


def walk_pictures(root: Path, folder: str = "", depth: int = DEPTH) -> Iterator[tuple[str, list[str]]]:
    """Every folder below the root, relative to it, and the names of its pictures, in order of names."""
    pictures, below = [], []
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if _PICTURE.fullmatch(entry.name):
                    pictures.append(entry.name)
                elif depth and not entry.name.startswith(".") and entry.is_dir():
                    below.append(entry.name)
    except PermissionError:  # such as lost+found
        return
    yield folder, sorted(pictures)
    for name in sorted(below):
        yield from walk_pictures(root, str(PurePosixPath(folder, name)), depth - 1)


def _fitting_nearby(root: Path, folder: str, image_id: int) -> Path | None:
    """A folder beside or above the root that has the picture in one of the usual places."""
    above = root.resolve().parent
    files = [official_file(part, image_id) for part in (folder, "train2017", "val2017", "test2017")]
    for candidate in [above, *sorted(above.iterdir())]:
        for place in _USUAL_PLACES:
            if any(os.path.isfile(candidate / place / file) for file in files):
                return candidate
    return None
