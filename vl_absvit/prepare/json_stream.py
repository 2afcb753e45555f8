"""The items of a JSON list one at a time, whatever the length of the file."""

import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.data.bounded import unpack
from vl_absvit.data.strict_json import parse, shown
from vl_absvit.errors import InputError

_LARGEST_ITEM = 64 << 20  # characters


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
    decoder, text, number, begun = json.JSONDecoder(), "", 0, False
    for piece, is_last in _pieces(path):
        text, place = text + piece, 0
        while True:
            while place < len(text) and text[place] in " \t\r\n,":
                place += 1
            if place == len(text):
                break
            if not begun:
                if text[place] != "[":
                    raise InputError(f"{path}: expected a list at the top level, got {shown(text[place : place + 40])}")
                begun, place = True, place + 1
                continue
            if text[place] == "]":
                return
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
            place = end
        text = text[place:]
    raise InputError(f"{path}: ends in the middle, after record {number:,}")


def _pieces(path: Path) -> Iterator[tuple[str, bool]]:
    """The text of a file, a megabyte at a time, and whether it is the end."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    try:
        for piece in unpack(path, None):
            yield decode(piece), False
        yield decode(b"", True), True
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON in UTF-8: {error}") from error
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
