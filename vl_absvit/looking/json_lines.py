"""JSON Lines files, which have an object on each line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.data.json_files import form_name, parse_lines, read_text
from vl_absvit.errors import InputError


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1 on, and object of every line that is not blank.

    Raises:
        InputError: the file is missing or unreadable, or a line is no JSON object.
    """
    for number, content in parse_lines(read_text(path, "expected JSON Lines in UTF-8"), path):
        if not isinstance(content, dict):
            raise InputError(f"{path}:{number}: expected an object, got {form_name(content)}")
        yield number, content
