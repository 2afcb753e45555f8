"""Records of large JSON files, plain or gzipped: one at a time, each value checked, so memory does not grow with them.

``where`` is always the words that a complaint begins with: the file and the record.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.data.bounded import unpack
from vl_absvit.data.json_files import form_name
from vl_absvit.data.strict_json import DECODER, MAX_CHARACTERS, check_surrogates, shown
from vl_absvit.errors import InputError

_LARGEST_ID = 2**63 - 1
_LONGEST_VALUE = 16 << 20
"""Characters of one record; it must be in memory as a whole."""
_MOST_PARTS = 2_000_000
"""Values of a list, keys of the object at the top level; the largest of the data sets has a third of it."""
_SPACE = re.compile(r"[ \t\n\r]*")


def plain_or_gzip(path: Path) -> Path | None:
    """``path`` or ``path.gz``, whichever is there.

    Raises:
        InputError: both are there.
    """
    both = [file for file in (path, path.with_name(f"{path.name}.gz")) if file.exists()]
    if len(both) > 1:
        raise InputError(f"{both[0]}: is there a second time as {both[1].name}; keep one of them")
    return both[0] if both else None


def read_records(path: Path, key: str) -> Iterator[tuple[str, dict]]:
    """The objects of the list under ``key`` at the top level, or of the list that is the top level itself.

    Yields:
        The words that say where a record is, and the record.

    Raises:
        InputError: not JSON, not gzip, an item that is no object, or no record at all.
    """
    number = 0
    try:
        text = _Text(unpack(path))
        is_list = text.next() == "["
        for record in text.whole_list() if is_list else _items_under(text, key):
            number += 1
            where = f"{path}: record {number}" + ("" if is_list else f" of {key!r}")
            if not isinstance(record, dict):
                expected = f"{path}: expected a list of objects" if is_list else f"{where}: expected an object"
                raise InputError(f"{expected}, got {form_name(record)}")
            yield where, record
    except (ValueError, EOFError, zlib.error, OSError) as error:
        raise _clear(error, path, f", after record {number} of {key!r}") from error
    if not number:
        raise InputError(
            f'{path}: expected an object {{"{key}": [...]}} or a list, with at least one record, found none'
        )


def _items_under(text: "_Text", key: str) -> Iterator[Any]:
    for name in text.keys():
        if name == key and text.next() == "[":
            yield from text.items()
        else:
            text.skip()


def read_value(path: Path, key: str, default: Any) -> Any:
    """The value under ``key`` at the top level, ``default`` if there is none; reads the file until it is found.

    Raises:
        InputError: not JSON, or not gzip.
    """
    try:
        text = _Text(unpack(path))
        for name in text.keys():
            if name == key:
                return text.value()
            text.skip()
    except (ValueError, EOFError, zlib.error, OSError) as error:
        raise _clear(error, path, "") from error
    return default


def integer(record: dict, key: str, where: str) -> int:
    """The id or count under ``key``.

    Raises:
        InputError: absent, not an integer, negative, or of more than 64 bits.
    """
    found = value(record, key, where)
    if type(found) is not int or not 0 <= found <= _LARGEST_ID:
        raise InputError(f"{where}: expected {key} to be an integer of at least 0, got {shown(found)}")
    return found


def string(record: dict, key: str, where: str) -> str:
    """The text under ``key``.

    Raises:
        InputError: absent, not a string, or longer than any text should be.
    """
    found = value(record, key, where)
    if not isinstance(found, str):
        raise InputError(f"{where}: expected {key} to be a string, got {form_name(found)}")
    if len(found) > MAX_CHARACTERS:
        raise InputError(f"{where}: {key} has {len(found):,} characters, the limit is {MAX_CHARACTERS:,}")
    return found


def value(record: dict, key: str, where: str) -> Any:
    """Whatever is under ``key``.

    Raises:
        InputError: nothing is.
    """
    if key not in record:
        raise InputError(f"{where}: there is no {key!r}")
    return record[key]


def _clear(error: Exception, path: Path, place: str) -> Exception:
    """Errors of the file's form as one line, with the ``place`` reached; others as they are."""
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return InputError(f"{path}: expected a gzip file{place}: {error}")
    if isinstance(error, InputError | OSError):
        return error
    return InputError(f"{path}: expected JSON in UTF-8{place}: {error}")


class _Text:
    """A JSON text of which a few values at a time are in memory; everything raises ``ValueError`` for what is wrong."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._decode = pieces, codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._place, self._before, self._ended = "", 0, 0, False

    def keys(self) -> Iterator[str]:
        """The keys of the object at the top level; each one's value is to be read or skipped before the next.

        Of something else than an object there are none.
        """
        if self.next() != "{":
            self.skip()
        else:
            seen = set()
            for _ in self._parts("}"):
                if self.next() != '"':
                    raise ValueError(f"expected a key {self._here()}")
                name = self.value()
                if name in seen:
                    raise ValueError(f"the key {shown(name)} is given twice")
                seen.add(name)
                self._take(":")
                yield name
        self._end()

    def whole_list(self) -> Iterator[Any]:
        """The values of the list that is the whole text."""
        yield from self.items()
        self._end()

    def items(self) -> Iterator[Any]:
        """The values of the list that is next."""
        for _ in self._parts("]"):
            yield self.value()

    def skip(self) -> None:
        """Pass over the value that is next; a list may be of any length."""
        if self.next() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def next(self) -> str:
        """The character that is next, white space apart; "" at the end."""
        while True:
            self._place = _SPACE.match(self._text, self._place).end()
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read()

    def value(self) -> Any:
        """The value that is next."""
        self.next()
        while True:
            found, end, failure = None, None, None
            try:
                found, end = DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:  # or is it only that the rest was not read yet?
                failure = f"{error.msg.removesuffix(' at')} {self._here(error.pos)}"
            except RecursionError as error:
                raise ValueError(f"nested too deeply {self._here()}") from error
            # What follows a number tells whether that was all of it.
            if end is not None and (end < len(self._text) or self._ended):
                check_surrogates(self._text[self._place : end], found)
                self._place = end
                return found
            if self._ended:
                raise ValueError(failure)
            if len(self._text) - self._place > _LONGEST_VALUE:
                too_long = f"a value of more than {_LONGEST_VALUE:,} characters {self._here()}"
                raise ValueError(f"{failure}, or {too_long}" if failure else too_long)
            self._read()

    def _parts(self, close: str) -> Iterator[None]:
        """Step through what stands between brackets and commas."""
        self._place += 1
        if self.next() == close:
            self._place += 1
            return
        for _ in range(_MOST_PARTS):
            yield
            if self.next() == close:
                self._place += 1
                return
            self._take(",")
        raise ValueError(f"a list or an object of more than {_MOST_PARTS:,} values {self._here()}")

    def _end(self) -> None:
        if self.next():
            raise ValueError(f"expected nothing more {self._here()}")

    def _take(self, mark: str) -> None:
        if self.next() != mark:
            raise ValueError(f"expected {mark!r} {self._here()}")
        self._place += 1

    def _here(self, place: int | None = None) -> str:
        return f"at character {self._before + (self._place if place is None else place):,}"

    def _read(self) -> None:
        """Drop what is done with, and read at least as much again as is left: a long value is not tried often."""
        self._before += self._place
        parts, wanted = [self._text[self._place :]], max(1, len(self._text) - self._place)
        while wanted > 0 and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            parts.append(self._decode(piece or b"", self._ended))
            wanted -= len(parts[-1])
        self._text, self._place = "".join(parts), 0
