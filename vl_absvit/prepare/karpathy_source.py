"""Karpathy's caption files (``dataset_flickr30k.json``, ``dataset_coco.json``): checked images.

A record is ``{"filename", "filepath" (COCO), "imgid" or "cocoid", "split", "sentences": [{"raw", "sentid"}]}``. Other
keys, such as tokens, are not read. ``karpathy_table`` reads the same as a table.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vl_absvit.data.json_files import form_name, read_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_sets import CAPTION_SETS
from vl_absvit.prepare.caption_source import CaptionSet, is_inside
from vl_absvit.prepare.json_records import integer, records_in, string, value
from vl_absvit.prepare.karpathy_table import read_table

_KEYS = {"dataset", "images", "filename", "filepath", "split", "sentences", "raw", "sentid"}
"""Keys that are read, besides the key of an image's id."""


class CaptionedImage(NamedTuple):
    """One image and its captions, without surrounding white space."""

    image_id: int
    file: str  # relative to the raw data
    split: str
    captions: list[tuple[int, str]]  # id, text


class Ids(NamedTuple):
    """Whether a file has ids. Images and captions without ids are numbered from 0 in file order."""

    of_images: bool
    of_captions: bool


def read_images(path: Path, dataset: str) -> tuple[Ids, Iterator[CaptionedImage]]:
    """The images of a Karpathy file, in its order. Its first record shows which ids it has.

    Raises:
        InputError: the file is missing, is about another data set, or an image has a fault, which the message names.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    described = CAPTION_SETS[dataset]
    if _is_table(path):
        records = read_table(path)
    else:
        content = read_json(path, keep=_KEYS | {described.image_key})
        named = content.get("dataset", dataset) if isinstance(content, dict) else dataset
        if named != dataset:
            raise InputError(f"{path}: is about {shown(named)}, asked for {dataset!r}")
        records = records_in(content, path, "images")
    location, first = next(records, (None, {}))
    if location is None:
        raise InputError(f"{path}: has no image")
    ids = Ids(described.image_key in first or described.is_on_coco, "sentid" in _sentences(first, location)[0])
    return ids, _images(itertools.chain([(location, first)], records), path, described, ids)


def _images(
    records: Iterable[tuple[str, dict]], path: Path, described: CaptionSet, ids: Ids
) -> Iterator[CaptionedImage]:
    captions = 0
    for number, (location, record) in enumerate(records):
        image_id = _id(record, described.image_key, ids.of_images, number, location)
        filename = string(record, "filename", location)
        location = f"{path}: image {image_id} ({filename})"
        folder = described.folder or string(record, "filepath", location)
        split = string(record, "split", location)
        if split not in described.images:
            splits = ", ".join(described.images)
            raise InputError(f"{location}: expected its split to be one of {splits}, got {split!r:.60}")
        texts = []
        for sentence in _sentences(record, location):
            caption_id = _id(sentence, "sentid", ids.of_captions, captions, location)
            texts.append((caption_id, _caption(sentence, f"{location}: caption {caption_id}")))
            captions += 1
        yield CaptionedImage(image_id, _file(folder, filename, location), split, texts)


def _is_table(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".csv")


def _sentences(record: dict, location: str) -> list[dict]:
    sentences = value(record, "sentences", location)
    if not isinstance(sentences, list):
        raise InputError(f"{location}: expected sentences to be a list, got {form_name(sentences)}")
    if not sentences:
        raise InputError(f"{location}: has no caption")
    for sentence in sentences:
        if not isinstance(sentence, dict):
            raise InputError(f'{location}: expected sentences of the form {{"raw": "..."}}, got {form_name(sentence)}')
    return sentences


def _id(record: dict[str, Any], key: str, is_given: bool, number: int, location: str) -> int:
    if is_given:
        return integer(record, key, location)
    if key in record:
        raise InputError(f"{location}: has a {key!r}, while the first one in the file has none")
    return number


def _caption(sentence: dict, location: str) -> str:
    caption = string(sentence, "raw", location).strip()
    if not caption:
        raise InputError(f"{location} is empty")
    return caption


def _file(folder: str, filename: str, location: str) -> str:
    """The path below the raw data.

    Raises:
        InputError: it leaves the folder, or names no file.
    """
    if not (is_inside(PurePosixPath(folder)) and is_inside(PurePosixPath(filename))):
        path = f"{folder!r:.60} / {filename!r:.60}"
        raise InputError(f"{location}: expected a file inside the images' folder, got {path}")
    return str(PurePosixPath(folder, filename))
