"""Karpathy's caption files (``dataset_flickr30k.json``, ``dataset_coco.json``): images one at a time, each checked.

A record: ``{"filename", "filepath" (COCO), "imgid" or "cocoid", "split", "sentences": [{"raw", "sentid"}]}``; other
keys, such as tokens, are not read. The same as a table: ``karpathy_table``.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vl_absvit.data.json_files import form_name
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_sets import FOLDERS, OFFICIAL, DatasetName, is_inside
from vl_absvit.prepare.json_stream import integer, read_records, read_value, string, value
from vl_absvit.prepare.karpathy_table import read_table

_IMAGE_KEYS = {"flickr30k": "imgid", "flickr8k": "imgid", "coco": "cocoid"}


class CaptionedImage(NamedTuple):
    """One image and its captions, as the file has them, but for surrounding white space."""

    image_id: int
    file: str  # relative to the raw data
    split: str
    captions: list[tuple[int, str]]  # id, text


class Ids(NamedTuple):
    """Which ids a file has; where it has none, images and captions are numbered in file order from 0."""

    of_images: bool
    of_captions: bool


def find_ids(path: Path, dataset: DatasetName) -> Ids:
    """Which ids the file has, by its first record.

    Raises:
        InputError: the file is missing, is about another data set, or begins with something else than an image.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    named = dataset if _is_table(path) else read_value(path, "dataset", default=dataset)
    if named != dataset:
        raise InputError(f"{path}: is about {shown(named)}, asked for {dataset!r}")
    where, record = next(_records(path), (None, {}))
    if where is None:
        raise InputError(f"{path}: has no image")
    sentence = _sentences(record, where)[0]
    return Ids(_IMAGE_KEYS[dataset] in record or dataset == "coco", "sentid" in sentence)


def read_images(path: Path, dataset: DatasetName, ids: Ids) -> Iterator[CaptionedImage]:
    """The records of a Karpathy file, in its order.

    Raises:
        InputError: names the file, the image and what is wrong with it.
    """
    captions = 0
    for number, (where, record) in enumerate(_records(path)):
        image_id = _id(record, _IMAGE_KEYS[dataset], ids.of_images, number, where)
        filename = string(record, "filename", where)
        where = f"{path}: image {image_id} ({filename})"
        folder = FOLDERS.get(dataset) or string(record, "filepath", where)
        split = string(record, "split", where)
        if split not in OFFICIAL[dataset]:
            splits = ", ".join(OFFICIAL[dataset])
            raise InputError(f"{where}: expected its split to be one of {splits}, got {split!r:.60}")
        texts = []
        for sentence in _sentences(record, where):
            caption_id = _id(sentence, "sentid", ids.of_captions, captions, where)
            texts.append((caption_id, _caption(sentence, f"{where}: caption {caption_id}")))
            captions += 1
        yield CaptionedImage(image_id, _file(folder, filename, where), split, texts)


def _records(path: Path) -> Iterator[tuple[str, dict]]:
    return read_table(path) if _is_table(path) else read_records(path, "images")


def _is_table(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".csv")


def _sentences(record: dict, where: str) -> list[dict]:
    sentences = value(record, "sentences", where)
    if not isinstance(sentences, list):
        raise InputError(f"{where}: expected sentences to be a list, got {form_name(sentences)}")
    if not sentences:
        raise InputError(f"{where}: has no caption")
    for sentence in sentences:
        if not isinstance(sentence, dict):
            raise InputError(f'{where}: expected sentences of the form {{"raw": "..."}}, got {form_name(sentence)}')
    return sentences


def _id(record: dict[str, Any], key: str, is_given: bool, number: int, where: str) -> int:
    if is_given:
        return integer(record, key, where)
    if key in record:
        raise InputError(f"{where}: has a {key!r}, while the first one in the file has none")
    return number


def _caption(sentence: dict, where: str) -> str:
    caption = string(sentence, "raw", where).strip()
    if not caption:
        raise InputError(f"{where} is empty")
    return caption


def _file(folder: str, filename: str, where: str) -> str:
    """The path below the raw data.

    Raises:
        InputError: it would lead out of the folder, or is none.
    """
    if not (is_inside(PurePosixPath(folder)) and is_inside(PurePosixPath(filename))):
        came = f"{folder!r:.60} / {filename!r:.60}"
        raise InputError(f"{where}: expected a file inside the images' folder, got {came}")
    return str(PurePosixPath(folder, filename))
