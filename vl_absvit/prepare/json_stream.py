"""The items of a JSON list one at a time, whatever the length of the file."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.data.bounded import reading_text, unpack
from vl_absvit.data.strict_json import parse, shown
from vl_absvit.errors import InputError

_LARGEST_ITEM = 64 << 20  # characters
_LIST, _FIRST, _ITEM, _AFTER, _END = "a list", "an item or ]", "an item", "a comma or ]", "the end"  # what comes next
_SPACE = re.compile(r"[ \t\r\n]*")


def stream_records(path: Path) -> Iterator[tuple[str, dict]]:
    """The objects of a JSON list; each with the words that locate it.

    Raises:
        InputError: it is no list of objects.
    """
    for location, record in stream_items(path):
        if not isinstance(record, dict):
            raise InputError(f"{location}: expected an object, got {shown(record)}")
        yield location, record


def stream_items(path: Path) -> Iterator[tuple[str, Any]]:
    """The items of a JSON list; each with the words that locate it. A file whose name ends in ``.gz`` is unpacked.

    Raises:
        InputError: the file cannot be read, is no JSON in UTF-8, or no list.
    """
    decoder, text, number, expected = json.JSONDecoder(), "", 0, _LIST
    for piece, is_last in _pieces(path):
        text, place = text + piece, 0
        while (place := _after_space(text, place)) < len(text):
            here = text[place]
            if here == "[" and expected == _LIST:
                expected, place = _FIRST, place + 1
            elif here == "]" and expected in (_FIRST, _AFTER):
                expected, place = _END, place + 1
            elif here == "," and expected == _AFTER:
                expected, place = _ITEM, place + 1
            elif expected not in (_ITEM, _FIRST):
                after = f"after record {number:,}" if number else "at the top level"
                raise InputError(f"{path}: expected {expected} {after}, got {shown(text[place : place + 40])}")
            else:
                try:
                    _, end = decoder.raw_decode(text, place)
                except ValueError as error:
                    if is_last or len(text) - place > _LARGEST_ITEM:
                        raise InputError(f"{path}: record {number + 1}: expected JSON: {error}") from error
                    break
                if end == len(text) and not is_last:  # digits may go on
                    break
                number += 1
                try:
                    item = parse(text[place:end])
                except ValueError as error:
                    raise InputError(f"{path}: record {number}: {error}") from error
                yield f"{path}: record {number}", item
                expected, place = _AFTER, end
        text = text[place:]
    if expected != _END:
        raise InputError(f"{path}: ends in the middle, after record {number:,}")


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None, "no space is space, too"
    return found.end()


def _pieces(path: Path) -> Iterator[tuple[str, bool]]:
    """The text of a file, a megabyte at a time, and whether it is the end."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    with reading_text(path, "expected JSON in UTF-8"):
        for piece in unpack(path, None):
            yield decode(piece), False
        yield decode(b"", True), True
