"""The description of a data set of captions: its splits, its images and the reader of its lists."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class CaptionLine(NamedTuple):
    """One caption of a list."""

    location: str  # file and line, for messages
    image: str  # name of the image, or any path to it
    number: int | None  # among the captions of its image; None if only their order in the list tells
    caption: str
    is_repaired: bool = False  # whether the line lacked the mark before the caption


class CaptionSet(NamedTuple):
    """A data set of captions."""

    images: dict[str, int]  # split -> published number of images
    folder: str | None  # downloaded folder of its images; None if they are COCO's
    image_key: str = "imgid"  # key of an image's id in Karpathy's file
    read_list: Callable[[Path], Iterator[CaptionLine]] | None = None
    """Reads a list in the data set's own form; None stands for the forms of ``caption_lists``."""
    images_of: str | None = None
    """The data set whose images they are, where that is another, wholly or in part."""

    @property
    def is_on_coco(self) -> bool:
        """Whether the images are COCO's, with its names and ids."""
        return self.folder is None


def is_inside(path: PurePosixPath) -> bool:
    """Whether a relative path names a file and does not leave its folder."""
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
