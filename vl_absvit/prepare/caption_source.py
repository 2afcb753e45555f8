"""What a source of captions is: its splits, where its images are, and what reads lists of it."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class CaptionLine(NamedTuple):
    """One caption as a list has it."""

    location: str  # the words that a complaint begins with
    image: str  # its name, or a path that anybody may have put before it
    number: int | None  # among the captions of its image; None where the list has them in order only
    caption: str
    is_repaired: bool = False  # whether the line lacked the mark before the caption


class CaptionSet(NamedTuple):
    """A data set of captions."""

    images: dict[str, int]  # split -> number of images, as published
    folder: str | None  # the one folder of its images, as it is downloaded; None: they are COCO's
    image_key: str = "imgid"  # of an image's id in Karpathy's file
    read_list: Callable[[Path], Iterator[CaptionLine]] | None = None
    """Reads a list in a form of the data set's own; None knows the forms of ``caption_lists``."""

    @property
    def is_on_coco(self) -> bool:
        """Whether images are COCO's: they have its names and ids."""
        return self.folder is None


def is_inside(path: PurePosixPath) -> bool:
    """Whether a relative path names something, and leads nowhere else."""
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
