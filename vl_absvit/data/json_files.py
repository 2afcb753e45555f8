"""JSON files, plain or gzipped. Reading reports any fault in one clear line; writing leaves whole files or none."""

import json
import os
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from vl_absvit.data.bounded import reading_text, unpack
from vl_absvit.data.files import write_text
from vl_absvit.data.strict_json import parse
from vl_absvit.errors import InputError

_FORM_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def form_name(value: object) -> str:
    """JSON's name for the form of ``value``: "a list", "an object", "a number", and so on."""
    return _FORM_NAMES.get(type(value), "a number")


def read_json(path: str | Path, form: type[dict] | type[list] | None = None, keep: Set[str] | None = None) -> Any:
    """The content of a JSON file. A file whose name ends in ``.gz`` is unpacked.

    Args:
        form: ``dict`` or ``list`` if the top level must be an object or a list; None accepts anything.
        keep: keys of objects to keep; others take no memory. None keeps all.

    Raises:
        InputError: the file is missing, unreadable, not JSON by the rules of ``strict_json``, or of another form.
    """
    text = read_text(path, "expected JSON in UTF-8")
    try:
        value = parse(text, keep)
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8: {error}") from error
    if form is not None and not isinstance(value, form):
        raise InputError(f"{path}: expected {_FORM_NAMES[form]} at the top level, got {form_name(value)}")
    return value


def read_text(path: str | Path, expected: str) -> str:
    """The text of a file in UTF-8, without a byte-order mark. A file whose name ends in ``.gz`` is unpacked.

    Args:
        expected: what the file should be, for messages.

    Raises:
        InputError: the file is missing, unreadable, or no such text.
    """
    path = Path(path)
    with reading_text(path, expected):
        return b"".join(unpack(path)).decode("utf-8-sig")


def parse_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Number, from 1 on, and value of every line of JSON Lines that is not blank; ``path`` is for messages.

    Raises:
        InputError: a line is no JSON.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = parse(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: expected JSON: {error}") from error
        yield number, value


def read_start(path: Path) -> str:
    """The first megabyte of a text, to recognise the file by; "" if it cannot be read.

    Raises:
        InputError: it is no ordinary file.
    """
    try:
        return next(unpack(path), b"").decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return ""


def six_digits(number: float) -> float:
    """The number as it is written where people read it, with six significant digits."""
    return float(f"{number:.6g}")


def make_room(path: str | Path) -> None:
    """Make the folder that ``path`` will be written into, and check that it can be, before a long computation.

    Raises:
        InputError: ``path`` is a folder, or its folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.filename}: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written: {'it is a folder' if path.is_dir() else 'permission denied'}")


def write_json(path: str | Path, value: object, *, indent: int | None = None) -> None:
    """Write ``value`` to ``path`` as ``write_text`` does.

    Raises:
        InputError: as ``write_text``.
        ValueError: ``value`` holds NaN or infinity.
    """
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")
