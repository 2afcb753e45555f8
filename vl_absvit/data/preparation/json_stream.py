"""Records of large JSON files, plain or gzipped: one at a time, each value checked, so memory does not grow with them.

``where`` is always the words that a complaint begins with: the file and the record.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from vl_absvit.data.json_files import form_name
from vl_absvit.errors import InputError

_LARGEST_ID = 2**63 - 1


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
    """The objects of the list under ``key`` at the top level, each with the words that say where it is.

    Raises:
        InputError: not JSON, not gzip, an item that is no object, or no record at all.
    """
    number = 0
    with _open(path) as stream, _failing_clearly(path, lambda: f", after record {number} of {key!r}"):
        for number, record in enumerate(ijson.items(stream, f"{key}.item"), start=1):  # noqa: B007
            where = f"{path}: record {number} of {key!r}"
            if not isinstance(record, dict):
                raise InputError(f"{where}: expected an object, got {form_name(record)}")
            yield where, record
    if not number:
        raise InputError(f'{path}: expected an object {{"{key}": [...]}} with at least one record, found none')


def read_value(path: Path, key: str, default: Any) -> Any:
    """The value under ``key`` at the top level, ``default`` if there is none; reads the file until it is found.

    Raises:
        InputError: not JSON, or not gzip.
    """
    with _open(path) as stream, _failing_clearly(path, str):
        return next(ijson.items(stream, key), default)


def integer(record: dict, key: str, where: str) -> int:
    """The id or count under ``key``.

    Raises:
        InputError: absent, not an integer, negative, or of more than 64 bits.
    """
    found = value(record, key, where)
    if type(found) is not int or not 0 <= found <= _LARGEST_ID:
        raise InputError(f"{where}: expected {key} to be an integer of at least 0, got {found!r:.60}")
    return found


def string(record: dict, key: str, where: str) -> str:
    """The text under ``key``.

    Raises:
        InputError: absent, or not a string.
    """
    found = value(record, key, where)
    if not isinstance(found, str):
        raise InputError(f"{where}: expected {key} to be a string, got {form_name(found)}")
    return found


def value(record: dict, key: str, where: str) -> Any:
    """Whatever is under ``key``.

    Raises:
        InputError: nothing is.
    """
    if key not in record:
        raise InputError(f"{where}: there is no {key!r}")
    return record[key]


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _failing_clearly(path: Path, place: Callable[[], str]) -> Iterator[None]:
    """Errors of the file's form as one line, with the ``place`` reached."""
    try:
        yield
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: expected JSON in UTF-8{place()}: {reason}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: expected a gzip file{place()}: {error}") from error
