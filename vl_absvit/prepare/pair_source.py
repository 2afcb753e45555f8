"""What a large source of captioned pictures gives: candidates, part by part.

A part is small enough for memory, and always the same, so that an interrupted preparation knows which are done.
"""

import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

_FLICKR = re.compile(r"https?://[^/]*(?:flickr\.com|staticflickr\.com)/(?:[^/]+/)*([0-9]+)_[0-9a-f]+")
Item = TypeVar("Item")


class Candidate(NamedTuple):
    """A picture with its captions."""

    key: str  # in its source
    captions: list[str]
    file: str | None  # below the folder of pictures; None if the bytes are here
    content: bytes | None
    ids: dict[str, str]  # "coco", "flickr": its id there; "sha256": of the file that its bytes were made from
    original: tuple[int, int] | None = None  # width and height of that file, if they are known


class Part(NamedTuple):
    """A part of a source."""

    name: str
    candidates: Sequence[Candidate]
    counts: Counter[str]  # what is to be said of the part beside its candidates -> number


class PairSourceFiles(ABC):
    """A source of captioned pictures."""

    dataset: str
    embedded: bool
    """Whether the pictures come as bytes."""

    @abstractmethod
    def sources(self) -> list[Path]:
        """Files whose content decides the result."""

    @abstractmethod
    def parts(self) -> Iterable[tuple[str, Any]]:
        """Name of every part, in order, and what ``read`` takes."""

    @abstractmethod
    def read(self, name: str, part: Any) -> Part:
        """A part; raises ``InputError`` for a fault."""

    def warnings(self) -> list[str]:
        """What is to be said at the end beside the counts."""
        return []


def numbered_parts(items: Iterable[Item], size: int) -> Iterator[tuple[str, list[Item]]]:
    """Items in parts of ``size``, which are called 00000, 00001 and so on."""
    iterator = iter(items)
    for number in itertools.count():
        if not (part := list(itertools.islice(iterator, size))):
            return
        yield f"{number:05d}", part


def flickr_id(url: str | None) -> dict[str, str]:
    """Flickr's number of a photograph, if an address has it."""
    found = _FLICKR.match(url or "")
    return {"flickr": found[1]} if found else {}
