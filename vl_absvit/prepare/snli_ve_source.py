"""SNLI-VE's files, in both releases, and those of its correction e-SNLI-VE.

Xie et al., "Visual Entailment: A Novel Task for Fine-Grained Image Understanding", 2019; github.com/necla-ml/SNLI-VE.
Kayser et al., "e-ViL", ICCV 2021; github.com/maximek3/e-ViL: e-SNLI-VE has other labels for many neutral pairs and
leaves some out, so that scores on the two are not comparable.
A record has an image of Flickr30K and a hypothesis about it. The premise is one of the image's captions: with it the
task would be another, and it is not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vl_absvit.data.json_files import read_start
from vl_absvit.data.records import SNLI_VE, STATEMENT_LABELS
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.json_records import read_json_lines, string, value
from vl_absvit.prepare.own.delimited import read_delimited
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.statements import checked_statement

Dataset = Literal["snli_ve", "e_snli_ve"]
OFFICIAL: dict[Dataset, dict[str, int]] = {
    "snli_ve": {"train": 529_527, "dev": 17_858, "test": 17_901},
    "e_snli_ve": {"dev": 14_339, "test": 14_740},
}
"""Data set -> split -> number of pairs, where it was counted."""
FILES: dict[Dataset, str] = {"snli_ve": "snli_ve_{}.jsonl", "e_snli_ve": "esnlive_{}.csv"}
"""Official names of files."""
SPLITS = ("train", "dev", "test")
_NUMBER = {word: place for place, word in enumerate(STATEMENT_LABELS[SNLI_VE])}
_IMAGE_KEYS = ("Flickr30K_ID", "Flikr30kID", "Flickr30kID")
"""Of today's release, of the first one, of e-SNLI-VE."""
_COLUMNS = ("pairID", "Flickr30kID", "hypothesis", "gold_label")
"""Of e-SNLI-VE's table."""
_NO_MAJORITY = "-"
_KEPT = frozenset(("pairID", "sentence2", "gold_label", *_IMAGE_KEYS))
_IMAGE = re.compile(r"([0-9]{1,19})(?:\.jpe?g)?", re.IGNORECASE)
_LARGEST_ID = 2**63 - 1


class Pair(NamedTuple):
    """A hypothesis about an image."""

    pair_id: str
    image_id: int  # Flickr's number of the photograph
    hypothesis: str
    label: int  # place among the labels of SNLI-VE


def dataset_of(path: Path) -> Dataset:
    """Which of the two data sets a file is of, by its form: lines of JSON, or a table.

    Raises:
        InputError: it is neither, or not there.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    start = read_start(path).lstrip("\ufeff \t\r\n")
    if start.startswith("{"):
        return "snli_ve"
    header = start.split("\n", 1)[0]
    if all(column in header for column in _COLUMNS):
        return "e_snli_ve"
    raise InputError(
        f"{path}: expected lines of JSON as SNLI-VE has them, or e-SNLI-VE's table with the columns "
        f"{', '.join(_COLUMNS)}, got {shown(header)}"
    )


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a file of either data set.

    Raises:
        InputError: a pair has a fault, or the file is SNLI's own.
    """
    read, text_key = (_of_lines, "sentence2") if dataset_of(path) == "snli_ve" else (_of_table, "hypothesis")
    undecided = without_image = number = 0
    for location, record in read(path):
        number += 1
        undecided += record.get("gold_label") == _NO_MAJORITY
        key = next((key for key in _IMAGE_KEYS if key in record), None)
        without_image += key is None
        if undecided or key is None:
            continue  # the rest of the file is counted
        label = string(record, "gold_label", location)
        if label not in _NUMBER:
            raise InputError(f"{location}: expected gold_label to be one of {', '.join(_NUMBER)}, got {shown(label)}")
        hypothesis = checked_statement(string(record, text_key, location), location)
        image_id = flickr_number(value(record, key, location), key, location)
        yield Pair(string(record, "pairID", location), image_id, hypothesis, _NUMBER[label])
    if undecided or without_image:
        faults = [(undecided, "the gold_label '-'"), (without_image, f"no {_IMAGE_KEYS[0]}")]
        said = " and ".join(f"{count:,} of {number:,} records have {fault}" for count, fault in faults if count)
        raise InputError(
            f"{path}: {said}: this is SNLI, not SNLI-VE, whose generator leaves out pairs without a majority and those "
            "of Visual Genome; expected its files"
        )


def flickr_number(found: Any, key: str, location: str) -> int:
    """Flickr's number of a photograph: 2248275918, "2248275918" or "2248275918.jpg".

    Raises:
        InputError: it is something else.
    """
    digits = str(found) if type(found) is int else found
    named = _IMAGE.fullmatch(digits.strip()) if isinstance(digits, str) else None
    if named is None or int(named[1]) > _LARGEST_ID:
        raise InputError(f"{location}: expected {key} to be a number such as 2248275918.jpg, got {shown(found)}")
    return int(named[1])


def _of_lines(path: Path) -> Iterator[tuple[str, dict]]:
    return read_json_lines(path, _KEPT)


def _of_table(path: Path) -> Iterator[tuple[str, dict]]:
    for line, cells in read_delimited(path, has_header=True):
        location = f"{path}: line {line}"
        if isinstance(cells, Fault):
            raise InputError(f"{location}: {cells.reason}: {cells.found}")
        yield location, cells
