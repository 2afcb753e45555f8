"""Karpathy's file as a table, ``flickr_annotations_30k.csv`` on the hub: one image per line, with lists in JSON.

It has the columns ``raw`` (captions), ``split`` and ``filename``, and ``sentids`` and ``img_id`` if there are ids.
Other columns are not read.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.data.strict_json import parse
from vl_absvit.errors import InputError
from vl_absvit.prepare.text_lines import read_lines

_NEEDED = ("raw", "split", "filename")


def read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records in the form of Karpathy's JSON file, after the words that locate them.

    Raises:
        InputError: there is no such table, or a line does not fit its header.
    """
    lines = read_lines(path)
    location, header = next(lines, (f"{path}: line 1", ""))
    columns = _cells(header, location)
    if not set(_NEEDED) <= set(columns):
        raise InputError(
            f"{location}: expected the columns {', '.join(_NEEDED)}, got {header!r:.80}; --captions takes other tables"
        )
    for location, line in lines:
        cells = _cells(line, location)
        if len(cells) != len(columns):
            raise InputError(f"{location}: expected {len(columns)} cells, got {len(cells)}")
        yield location, _record(dict(zip(columns, cells, strict=True)), location)


def _cells(line: str, location: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise InputError(f"{location}: expected comma-separated values: {error}") from error


def _record(row: dict[str, str], location: str) -> dict[str, Any]:
    captions = _list(row, "raw", location)
    record: dict[str, Any] = {"split": row["split"], "filename": row["filename"]}
    record["sentences"] = [{"raw": caption} for caption in captions]
    if "sentids" in row:
        sentids = _list(row, "sentids", location)
        if len(sentids) != len(captions):
            raise InputError(f"{location}: expected an id for each of {len(captions)} captions, got {len(sentids)}")
        record["sentences"] = [
            {"raw": caption, "sentid": sentid} for caption, sentid in zip(captions, sentids, strict=True)
        ]
    if "img_id" in row:
        if not (row["img_id"].isascii() and row["img_id"].isdigit()):
            raise InputError(f"{location}: expected img_id to be a number, got {row['img_id']!r:.60}")
        record["imgid"] = int(row["img_id"])
    return record


def _list(row: dict[str, str], column: str, location: str) -> list[Any]:
    try:
        found = parse(row[column])
    except ValueError as error:
        raise InputError(f"{location}: expected {column} to be a list in JSON: {error}") from error
    if not isinstance(found, list):
        raise InputError(f"{location}: expected {column} to be a list in JSON, got {row[column]!r:.60}")
    return found
