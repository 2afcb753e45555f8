"""The caption data sets that are known: their splits, official sizes, folders and names of images."""

import re
from pathlib import PurePosixPath
from typing import Literal

DatasetName = Literal["flickr30k", "flickr8k", "coco"]

# Data set -> split -> official number of images.
OFFICIAL: dict[str, dict[str, int]] = {
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
    "flickr8k": {"train": 6_000, "val": 1_000, "test": 1_000},
    "coco": {"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000},
}
FOLDERS = {"flickr30k": "flickr30k-images", "flickr8k": "Flicker8k_Dataset"}
"""The one folder of a data set's images, as it is downloaded; COCO's records name theirs."""

_SPLIT_WORDS = {"validation": "val", "valid": "val", "dev": "val"} | {
    split: split for splits in OFFICIAL.values() for split in splits
}
_WORD = re.compile(r"[A-Z]?[a-z]+")


def split_in(name: str) -> str | None:
    """The split that the name of a file tells of; None if it tells of none or of several.

    ``flickr30k_train.json``, ``coco_karpathy_val.json``, ``test.json``, ``Flickr_8k.devImages.txt``.
    """
    words = (word.lower() for word in _WORD.findall(name))
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def is_inside(path: PurePosixPath) -> bool:
    """Whether a relative path names something, and leads nowhere else."""
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
