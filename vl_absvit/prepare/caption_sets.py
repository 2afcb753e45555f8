"""The known caption data sets, and the splits in names of files."""

import re

from vl_absvit.prepare import sets
from vl_absvit.prepare.caption_source import CaptionSet

CAPTION_SETS: dict[str, CaptionSet] = sets.known(CaptionSet)
_OTHER_WORDS = {"validation": "val", "valid": "val", "dev": "val"}
_WORD = re.compile(r"[A-Z]?[a-z]+")


def split_in(name: str) -> str | None:
    """The split in the name of a file; None if there is none, or several.

    Examples: ``flickr30k_train.json``, ``coco_karpathy_val.json``, ``test.json``, ``Flickr_8k.devImages.txt``.
    """
    split_of = _OTHER_WORDS | {split: split for described in CAPTION_SETS.values() for split in described.images}
    words = (word.lower() for word in _WORD.findall(name))
    found = {split_of[word] for word in words if word in split_of}
    return found.pop() if len(found) == 1 else None
