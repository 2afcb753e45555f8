"""The known caption data sets."""

import re

from vl_absvit.prepare.caption_source import CaptionSet

CAPTION_SETS: dict[str, CaptionSet] = {
    "flickr30k": CaptionSet({"train": 29_000, "val": 1_014, "test": 1_000}, "flickr30k-images"),
    "flickr8k": CaptionSet({"train": 6_000, "val": 1_000, "test": 1_000}, "Flicker8k_Dataset"),
    "coco": CaptionSet({"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000}, None, "cocoid"),
}
_SPLIT_WORDS = {"validation": "val", "valid": "val", "dev": "val"} | {
    split: split for described in CAPTION_SETS.values() for split in described.images
}
_WORD = re.compile(r"[A-Z]?[a-z]+")


def split_in(name: str) -> str | None:
    """The split in the name of a file; None if there is none, or several.

    Examples: ``flickr30k_train.json``, ``coco_karpathy_val.json``, ``test.json``, ``Flickr_8k.devImages.txt``.
    """
    words = (word.lower() for word in _WORD.findall(name))
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None
