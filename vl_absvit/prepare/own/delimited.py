"""Rows of tables whose cells are separated by commas, tabs, semicolons or bars; cells may be quoted."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from vl_absvit.data.json_files import read_text
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.prepare.own.refusals import Fault

_QUOTED = re.compile('"[^"]*"')
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_delimited(path: Path, *, has_header: bool) -> Iterator[tuple[int, dict[str, str] | Fault]]:
    """The line on which each row begins, and its cells by column. Rows without any text are left out.

    The first row decides what separates cells, and how many there are. A row with wrong quotation marks is refused with
    its first line alone, and so is one of several lines with another number of cells: the lines after it are read anew,
    so that a stray mark takes no other row with it.

    Args:
        has_header: whether the first row names the columns; they are "1", "2" and so on otherwise.

    Raises:
        InputError: the file cannot be read, is no text in UTF-8, has no row, or its header is wrong.
    """
    lines = list(io.StringIO(read_utf8(path), newline=""))
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise InputError(f"{path}: is empty; expected a table")
    mark = mark_of(path, lines[start])
    end, first = _row(lines, start, mark)
    if isinstance(first, Fault):
        raise InputError(f"{path}: line {start + 1}: {first.found}")
    columns = header_of(first, f"{path}: line {start + 1}") if has_header else [str(n + 1) for n in range(len(first))]
    start = end if has_header else start
    while start < len(lines):
        end, cells = _row(lines, start, mark)
        if not isinstance(cells, Fault) and len(cells) != len(columns) and any(cells):
            cells = Fault("another number of cells than the first row", f"{len(cells)} cells, expected {len(columns)}")
            end = start + 1
        if isinstance(cells, Fault):
            yield start + 1, cells
        elif any(cells):
            yield start + 1, dict(zip(columns, cells, strict=True))
        start = end


def read_utf8(path: Path) -> str:
    """The text of a table.

    Raises:
        InputError: it cannot be read; where it is in another encoding, the message says in which line, and what to do.
    """
    try:
        text = read_text(path, "expected a table in UTF-8")
    except InputError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        data, place = error.__cause__.object, error.__cause__.start
        raise InputError(f"{path}: {_other_encoding(data, place)}") from error
    if "\0" in text[:1000]:
        raise InputError(f"{path}: holds NUL bytes; expected a table in UTF-8: {_conversion('UTF-16LE')}")
    return text


def _other_encoding(data: bytes, place: int) -> str:
    if data.startswith(_UTF_16):
        return f"is in UTF-16; expected a table in UTF-8: {_conversion('UTF-16')}"
    line = data.count(b"\n", 0, place) + 1
    return f"line {line:,}: the byte {data[place]:#x} is not UTF-8; a table in Latin-1: {_conversion('LATIN1')}"


def _conversion(encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 converts it"


def mark_of(path: Path, line: str) -> str:
    """What separates the cells of a table with this first row: a tab, or the first of the marks outside quotations."""
    if path.name.removesuffix(".gz").endswith(".tsv"):
        return "\t"
    bare = _QUOTED.sub("", line)
    return "\t" if "\t" in bare else next((mark for mark in bare if mark in ",;|"), ",")


def _row(lines: Sequence[str], start: int, mark: str) -> tuple[int, list[str] | Fault]:
    """The row that begins on a line: the line after it, and its cells."""
    reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=mark, strict=True,
                        skipinitialspace=mark != "\t")  # fmt: skip
    try:
        cells = next(reader)
    except csv.Error as error:
        return start + 1, Fault("not CSV", str(error))
    return start + reader.line_num, [cell.strip() for cell in cells]


def header_of(cells: Sequence[str], location: str) -> list[str]:
    """The names of columns in a first row.

    Raises:
        InputError: two columns have the same name.
    """
    twice = [name for name, number in Counter(cells).items() if name and number > 1]
    if twice:
        raise InputError(f"{location}: two columns are called {shown(twice[0])}")
    return list(cells)
