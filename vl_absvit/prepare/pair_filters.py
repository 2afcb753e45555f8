"""What of a source of pairs is left out on request: captions by their words and repetitions, pictures by their size."""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vl_absvit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PairFilters:
    """Nothing is left out unless it is asked for."""

    unescape_html: bool = False
    """Make characters of HTML's entities: ``&amp;`` is ``&``."""
    min_words: int | None = None
    """Fewest words of a caption; words are what lies between white space."""
    max_words: int | None = None
    """Most words of a caption."""
    max_repeats: int | None = None
    """A caption that the source has more often, whatever the pictures, is left out everywhere."""
    min_side: int | None = None
    """Pixels of a picture's shorter side, at least."""
    max_aspect: float | None = None
    """A picture's longer side over its shorter one, at most."""
    min_region: float | None = None
    """Share of its picture that a region has, at least; of Visual Genome alone."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not value > 0 or (name == "min_region" and value >= 1) or (name == "max_aspect" and value < 1):
                expected = {"min_region": "a share in (0, 1)", "max_aspect": "at least 1"}.get(name, "more than 0")
                raise ConfigError(f"--{name.replace('_', '-')}: expected {expected}, got {value:g}")
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ConfigError(f"--min-words {self.min_words} is more than --max-words {self.max_words}")

    def given(self) -> dict[str, Any]:
        """Those that are asked for."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}

    def cleaned(self, caption: str) -> str:
        """A caption without white space around it, and without entities if that is asked for."""
        return (html.unescape(caption) if self.unescape_html else caption).strip()

    def fault_of_caption(self, caption: str) -> str | None:
        """Why a caption is left out; None if it is not."""
        if self.min_words is None and self.max_words is None:
            return None
        words = len(caption.split())
        if self.min_words is not None and words < self.min_words:
            return f"captions of fewer than {self.min_words} words"
        if self.max_words is not None and words > self.max_words:
            return f"captions of more than {self.max_words} words"
        return None

    def fault_of_picture(self, size: tuple[int, int]) -> str | None:
        """Why a picture of this width and height is left out; None if it is not."""
        shorter, longer = sorted(size)
        if self.min_side is not None and shorter < self.min_side:
            return f"pictures with a side of fewer than {self.min_side} pixels"
        if self.max_aspect is not None and longer > self.max_aspect * shorter:
            return f"pictures more than {self.max_aspect:g} times as long as they are wide"
        return None


def hashes_of(captions: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each caption, equal for equal ones, (captions,)."""
    digests = b"".join(hashlib.blake2b(caption.encode(), digest_size=8).digest() for caption in captions)
    return np.frombuffer(digests, dtype=np.uint64)


def frequent(hashes: np.ndarray, most: int) -> np.ndarray:
    """The hashes that occur more than ``most`` times, ascending."""
    values, counts = np.unique(hashes, return_counts=True)
    return values[counts > most]
