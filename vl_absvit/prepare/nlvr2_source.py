"""NLVR2's official files: lines, identifiers, subsets, and the names of images.

Suhr et al., "A Corpus for Reasoning about Natural Language Grounded in Photographs", ACL 2019; github.com/lil-lab/nlvr.
An identifier is ``dev-850-0-1``: split, set of images, pair of the set, sentence. The two images of a pair are named by
the identifier without the sentence: ``dev-850-0-img0.png`` is the left one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.json_records import read_json_lines, string
from vl_absvit.prepare.named_images import NamedImages
from vl_absvit.prepare.statements import checked_statement

OFFICIAL = {"train": 86_373, "dev": 6_982, "test1": 6_967, "test2": 6_970}
"""Split -> number of lines. ``test1`` is the paper's test-P, ``test2`` test-U, of which no images are given out."""
SUBSETS = ("balanced", "unbalanced")
LISTS = ("nlvr2/data", "data", "")
"""Folders that hold the lines, from a checkout's parent, from a checkout, or from their own."""
_IDENTIFIER = re.compile(
    rf"({'|'.join(OFFICIAL)})" + "".join(rf"-(0|[1-9][0-9]{{0,{digits - 1}}})" for digits in (7, 3, 2))
)
_LABELS = {"False": 0, "True": 1}
_KEPT = frozenset(("identifier", "sentence", "label", "left_url", "right_url", "directory"))


class Identifier(NamedTuple):
    """The parts of an identifier as numbers."""

    split: str
    images: int  # the set
    pair: int
    sentence: int

    @property
    def _pair_number(self) -> int:
        place = list(OFFICIAL).index(self.split)
        return (place * 10**7 + self.images) * 1_000 + self.pair

    @property
    def statement_id(self) -> int:
        """A number of its own for every identifier."""
        return self._pair_number * 100 + self.sentence

    def image_id(self, side: int) -> int:
        """A number of its own for every image: left (0) or right (1)."""
        return self._pair_number * 10 + side


class Line(NamedTuple):
    """One statement about a pair of images."""

    identifier: Identifier
    name: str  # the identifier as it is written
    sentence: str
    label: int  # 1 is True
    urls: list[str]  # where the images were found, as far as the line says it
    folder: str  # of the images

    def file(self, side: int) -> str:
        """Official file of an image, left (0) or right (1)."""
        return f"{self.folder}/{self.name.rpartition('-')[0]}-img{side}.png"


class PairImages(NamedImages):
    """NLVR2's images, in their official place or anywhere by name: names tell split, set and pair."""

    def find(self, file: str) -> str | None:
        """As ``NamedImages.find``; a picture in a subfolder is found by its name alone."""
        found = super().find(file)
        name = file.rpartition("/")[2]
        if found is None:
            found = next((f"{folder}/{name}".lstrip("/") for folder, names in self._folders if name in names), None)
        return found


def parse_identifier(name: str, location: str) -> Identifier:
    """The parts of an identifier.

    Raises:
        InputError: it has another form.
    """
    found = _IDENTIFIER.fullmatch(name)
    if not found:
        raise InputError(f"{location}: expected an identifier such as dev-850-0-1, got {shown(name)}")
    return Identifier(found[1], *map(int, found.groups()[1:]))


def find_list(root: Path, name: str) -> Path | None:
    """A file of lines, plain or gzipped, in one of ``LISTS`` below a folder; None if there is none."""
    places = (root / folder / f"{name}.json{suffix}" for folder in LISTS for suffix in ("", ".gz"))
    return next((place for place in places if place.exists()), None)


def read_lines_of(path: Path, split: str) -> Iterator[Line]:
    """The lines of a split.

    Raises:
        InputError: a line has a fault, or is of another split.
    """
    for location, record in read_json_lines(path, _KEPT):
        name = string(record, "identifier", location)
        identifier = parse_identifier(name, location)
        if identifier.split != split:
            raise InputError(f"{location}: expected the identifiers of {split}, got {name}")
        label = string(record, "label", location)
        if label not in _LABELS:
            raise InputError(f"{location}: expected the label True or False, got {shown(label)}")
        folder = split
        if split == "train":
            directory = string(record, "directory", location)
            if not re.fullmatch("[0-9]{1,3}", directory):
                raise InputError(f"{location}: expected directory to be a number in quotes, got {shown(directory)}")
            folder = f"images/train/{directory}"
        sentence = checked_statement(string(record, "sentence", location), location)
        urls = [url for key in ("left_url", "right_url") if isinstance(url := record.get(key), str)]
        yield Line(identifier, name, sentence, _LABELS[label], urls, folder)


def read_subsets(lists: Path, split: str) -> dict[str, str]:
    """Name -> subset of the statements that are in one; {} if no file of a subset is beside the lines.

    Raises:
        InputError: only one of the files is there, one has a fault, or a statement is in both.
    """
    files = {subset: find_list(lists.parent / subset, f"{subset}_{split}") for subset in SUBSETS}
    if missing := [subset for subset, file in files.items() if file is None]:
        if len(missing) == 1:
            raise InputError(f"{lists.parent / missing[0]}: expected {missing[0]}_{split}.json beside the other subset")
        return {}
    subset_of: dict[str, str] = {}
    for subset, file in files.items():
        assert file is not None, "both are there"
        for location, record in read_json_lines(file, _KEPT):
            name = string(record, "identifier", location)
            if subset_of.setdefault(name, subset) != subset:
                raise InputError(f"{location}: {shown(name)} is in both subsets")
    return subset_of
