"""Splits of one's own data: named by a column, by the command line, or drawn as shares of the pictures."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.strict_json import shown
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.refusals import Fault

_NAME = re.compile(r"(?!images)[a-z0-9][a-z0-9_-]{0,39}")
_OTHER_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
_USUAL = {"val": 0.1, "test": 0.0}


class SplitTable(NamedTuple):
    """A table, and the split that all of its rows are in; None where the rows tell, or a draw."""

    split: str | None
    path: Path


def split_table(text: str) -> SplitTable:
    """``val=b.csv`` or ``b.csv``.

    Raises:
        ConfigError: the split has a name that none can have.
    """
    split, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return SplitTable(None, Path(text))
    try:
        return SplitTable(split_name(split), Path(path))
    except Fault as fault:
        raise ConfigError(f"--table: expected FILE or SPLIT=FILE, such as val=b.csv, got {shown(text)}") from fault


def split_name(text: str) -> str:
    """The name of a split, in lower case; ``validation`` and ``dev`` are ``val``.

    Raises:
        Fault: no split can have it.
    """
    name = text.strip().lower()
    name = _OTHER_WORDS.get(name, name)
    if not _NAME.fullmatch(name):
        raise Fault("a split that is no short name of letters, digits, - and _", shown(text))
    return name


def check_shares(shares: Mapping[str, float | None]) -> None:
    """Make sure that shares of pictures, by split, leave some for training.

    Raises:
        ConfigError: they do not.
    """
    for split, share in shares.items():
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"--{split}-share: expected a share of the pictures in [0, 1), got {share}")
    if (total := sum(_or_usual(shares).values())) >= 1:
        raise ConfigError(f"--val-share and --test-share leave no picture to train on: together they are {total:g}")


def draw(pictures: Iterable[str], shares: Mapping[str, float | None], seed: int) -> dict[str, str]:
    """Picture -> split: a share of the pictures for each split, the rest for ``train``.

    Pictures are taken in the order of a hash of seed and file, which does not depend on libraries or on the order of
    rows. A share above 0 is at least one picture.

    Args:
        shares: split -> share in [0, 1); None is the usual one, a tenth for ``val`` and nothing for ``test``.

    Raises:
        InputError: no picture is left to train on.
    """
    order = sorted(set(pictures), key=lambda file: hashlib.sha256(f"{seed}:{file}".encode()).digest())
    split_of = dict.fromkeys(order, "train")
    start = 0
    for split, share in _or_usual(shares).items():
        number = max(1, round(share * len(order))) if share else 0
        split_of |= dict.fromkeys(order[start : start + number], split)
        start += number
    if start >= len(order):
        raise InputError(
            f"{len(order):,} pictures cannot be divided: --val-share and --test-share take {start:,} and leave none to "
            "train on"
        )
    return split_of


def _or_usual(shares: Mapping[str, float | None]) -> dict[str, float]:
    return {split: _USUAL[split] if share is None else share for split, share in shares.items()}
