"""Read possibly hostile text files, plain or gzipped, line by line."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from vl_absvit.data.bounded import MAX_BYTES, reading_text, unpack
from vl_absvit.data.strict_json import MAX_CHARACTERS
from vl_absvit.errors import InputError


def read_lines(path: Path, *, keep_blank: bool = False, most: int | None = MAX_BYTES) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, without their ends. A line ends with a line feed, or with a return before it.

    Args:
        keep_blank: give blank lines, too; the end of the last line begins no other one.
        most: bytes that the file may have, see ``unpack``.

    Yields:
        The words that locate a line (file and number), and the line.

    Raises:
        InputError: there is no such file, it is not text in UTF-8 or not gzip, or a line is too long.
    """
    rest, number = "", 0
    with reading_text(path, "expected text in UTF-8", lambda: f", after line {number}"):
        decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        for piece in unpack(path, most):
            *lines, rest = (rest + decode(piece)).split("\n")
            if len(rest) > MAX_CHARACTERS:
                raise InputError(f"{path}: line {number + len(lines) + 1} has more than {MAX_CHARACTERS:,} characters")
            for line in lines:
                number += 1
                if keep_blank or line.strip():
                    yield f"{path}: line {number}", line.removesuffix("\r")
        rest += decode(b"", True)
    if rest if keep_blank else rest.strip():
        yield f"{path}: line {number + 1}", rest.removesuffix("\r")
