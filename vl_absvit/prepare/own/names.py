"""Names of data sets of one's own."""

import re

from vl_absvit.errors import ConfigError
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.vqa_sets import DATA_SETS

PUBLISHED = {"visual_genome": "coco", "snli_ve": "flickr30k", "e_snli_ve": "flickr30k", "conceptual_captions": None,
             "sbu_captions": None, "nlvr2": None}  # fmt: skip
"""Data sets that are neither of questions nor of captions of every image, though models are trained on them -> whose
images theirs are."""
_TAKEN = {*DATA_SETS, *CAPTION_SETS, *PUBLISHED, "vqa", "vqa_hat", "imagenet", "unknown"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def is_published(dataset: str) -> bool:
    """Whether a data set's pictures are known by its name. One's own may hold anybody's."""
    return dataset in DATA_SETS or dataset in CAPTION_SETS or dataset in PUBLISHED


def check_name(name: str, option: str) -> None:
    """Refuse what cannot name data of one's own.

    Raises:
        ConfigError: the name is no short name, or that of a published data set, which results would then claim.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{option}: expected up to 60 letters, digits, '-', '_' or '.', got {name!r:.80}")
    if _bare(name) in {_bare(taken) for taken in _TAKEN}:
        raise ConfigError(
            f"{option} {name}: is a published data set, and results would say that they are on it; choose another"
        )


def _bare(name: str) -> str:
    return re.sub(r"[_.-]", "", name.lower())
