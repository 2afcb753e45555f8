"""Find the pictures of Flickr's data sets by their names, anywhere below a folder."""

import functools
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from vl_absvit.prepare.coco_images import DEPTH, walk_pictures

_USUAL_PLACES = (
    "", "images", "Images", "flickr30k_images", "flickr30k_images/flickr30k_images", "images/flickr30k-images",
)  # fmt: skip


class NamedImages:
    """Pictures below a folder, in the official place or elsewhere.

    Args:
        root: the folder.
        files: official files of all images that may be requested: "flickr30k-images/1000092795.jpg".
    """

    def __init__(self, root: Path, files: Iterable[str]) -> None:
        self._root, self._files = root, frozenset(files)
        self._names = frozenset(PurePosixPath(file).name for file in self._files)

    def find(self, file: str) -> str | None:
        """Path of a picture relative to the root: its official place, or the folder with most pictures that has it.

        Args:
            file: its official file.

        Returns:
            None if there is none.
        """
        if (self._root / file).exists():
            return file
        _, *below = PurePosixPath(file).parts
        if len(below) == 1:
            return next((_join(folder, below[0]) for folder, names in self._folders if below[0] in names), None)
        # A picture in a subfolder of the official folder is found by its whole path.
        places = (_join(folder, *below) for folder, _ in self._folders)
        return next((place for place in places if (self._root / place).exists()), None)

    @property
    def has_pictures(self) -> bool:
        """Whether any picture is below the folder, or a folder nearby has requested ones."""
        return self._example is not None or self._fitting is not None

    def looked_for(self, file: str) -> str:
        """Words about a missing picture: the places that were searched, other pictures there, and a fitting folder.

        Args:
            file: official file of a picture that was not found.
        """
        number = len(self._walked) - 1
        words = f"looked for {file} and for {PurePosixPath(file).name} in {self._root} and {number:,} folders below it"
        words += f" ({DEPTH} levels), " + (
            f"which have pictures such as {self._example}" if self._example else "where no picture is at all"
        )
        return f"{words}; {self._fitting} would fit" if self._fitting else words

    @functools.cached_property
    def _walked(self) -> list[tuple[str, frozenset[str], str | None]]:
        """Folders, the requested names in each, and the name of one other picture."""
        return [
            (folder, self._names.intersection(names), next((name for name in names if name not in self._names), None))
            for folder, names in walk_pictures(self._root)
        ]

    @functools.cached_property
    def _folders(self) -> list[tuple[str, frozenset[str]]]:
        """The folders with requested pictures, in descending order of their number."""
        found = [(folder, names) for folder, names, _ in self._walked if names]
        return sorted(found, key=lambda folder: (-len(folder[1]), len(PurePosixPath(folder[0]).parts), folder[0]))

    @functools.cached_property
    def _example(self) -> str | None:
        """A picture below the folder."""
        for folder, names, other in self._walked:
            if name := min(names, default=other):
                return _join(folder, name)
        return None

    @functools.cached_property
    def _fitting(self) -> Path | None:
        """A folder beside or above the root with missing pictures in one of the usual places."""
        absent = self._names.difference(*(names for _, names in self._folders))
        above = self._root.resolve().parent
        official = {str(PurePosixPath(file).parent) for file in self._files}
        for candidate in [above, *_folders_in(above)]:
            for place in (*_USUAL_PLACES, *sorted(official)):
                if not absent.isdisjoint(_names_in(candidate / place)):
                    return candidate
        return None


def _join(folder: str, *parts: str) -> str:
    return str(PurePosixPath(folder, *parts))


def _folders_in(folder: Path) -> list[Path]:
    return [folder / name for name in _names_in(folder) if not name.startswith(".") and (folder / name).is_dir()]


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # it does not exist or cannot be read
        return []
