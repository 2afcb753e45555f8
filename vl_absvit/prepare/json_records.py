"""Read records of JSON files, plain or gzipped, and check their values.

``location`` is always the beginning of an error message: the file and the record.
"""

from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

from vl_absvit.data.json_files import form_name, read_json
from vl_absvit.data.strict_json import MAX_CHARACTERS, parse, shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.text_lines import read_lines

_LARGEST_ID = 2**63 - 1


def read_records(path: Path, key: str, keep: Iterable[str]) -> Iterator[tuple[str, dict]]:
    """The objects of the list under ``key``, or of the list at the top level.

    Args:
        keep: keys to keep in records and in objects inside them; others take no memory.

    Yields:
        The words that locate a record, and the record.

    Raises:
        InputError: as ``read_json``; or an item is no object, or there is no record.
    """
    return records_in(read_json(path, keep={key, *keep}), path, key)


def read_json_lines(path: Path, keep: Set[str]) -> Iterator[tuple[str, dict]]:
    """The objects of a file with one on each line, line by line.

    Args:
        keep: keys to keep in records; others take no memory.

    Yields:
        The words that locate a record, and the record.

    Raises:
        InputError: as ``read_lines``; or a line is no object.
    """
    for location, line in read_lines(path):
        try:
            record = parse(line, keep)
        except ValueError as error:
            raise InputError(f"{location}: expected JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(f"{location}: expected an object, got {form_name(record)}")
        yield location, record


def records_in(content: Any, path: Path, key: str) -> Iterator[tuple[str, dict]]:
    """``read_records`` for the content of a file.

    Raises:
        InputError: an item is no object, or there is no record.
    """
    records, place = (content.get(key), f" of {key!r}") if isinstance(content, dict) else (content, "")
    if not isinstance(records, list) or not records:
        raise InputError(
            f'{path}: expected an object {{"{key}": [...]}} or a list, with at least one record, found none'
        )
    for number, record in enumerate(records, start=1):
        location = f"{path}: record {number}{place}"
        if not isinstance(record, dict):
            expected = f"{location}: expected an object" if place else f"{path}: expected a list of objects"
            raise InputError(f"{expected}, got {form_name(record)}")
        yield location, record


def integer(record: dict, key: str, location: str) -> int:
    """The id or count under ``key``.

    Raises:
        InputError: the value is absent, not an integer, negative, or of more than 64 bits.
    """
    found = value(record, key, location)
    if type(found) is not int or not 0 <= found <= _LARGEST_ID:
        raise InputError(f"{location}: expected {key} to be an integer of at least 0, got {shown(found)}")
    return found


def string(record: dict, key: str, location: str) -> str:
    """The text under ``key``.

    Raises:
        InputError: the value is absent, not a string, or too long.
    """
    found = record.get(key)
    if not isinstance(found, str):
        found = value(record, key, location)
        raise InputError(f"{location}: expected {key} to be a string, got {form_name(found)}")
    if len(found) > MAX_CHARACTERS:
        raise InputError(f"{location}: {key} has {len(found):,} characters, the limit is {MAX_CHARACTERS:,}")
    return found


def value(record: dict, key: str, location: str) -> Any:
    """The value under ``key``.

    Raises:
        InputError: the key is absent.
    """
    if key not in record:
        raise InputError(f"{location}: there is no {key!r}")
    return record[key]
