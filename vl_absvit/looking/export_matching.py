"""Which of some files, named like pictures, belongs to each line of an export's index."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from vl_absvit.errors import InputError


def match_files(entries: Sequence[dict[str, Any]], files: Sequence[str], place: object) -> list[int | None]:
    """For each line of an index, the file whose path, without suffix, ends most like that of the line's picture.

    Names must be the same; folders above tell files of one name apart.

    Args:
        files: paths, with ``/``.
        place: where the files are, for messages.

    Returns:
        Places in ``files``; None for a picture without a file.

    Raises:
        InputError: two files end equally like a picture.
    """
    parts = [_parts(file) for file in files]
    by_name: dict[str, list[int]] = {}
    for row, names in enumerate(parts):
        by_name.setdefault(names[0], []).append(row)
    found: list[int | None] = []
    for entry in entries:
        wanted = _parts(entry["image"])
        ranked = sorted(by_name.get(wanted[0], []), key=lambda row: -_common(wanted, parts[row]))
        if len(ranked) > 1 and _common(wanted, parts[ranked[0]]) == _common(wanted, parts[ranked[1]]):
            both = " and ".join(files[row] for row in ranked[:2])
            raise InputError(f"{place}: {both} may both be about {entry['image']}")
        found.append(ranked[0] if ranked else None)
    return found


def _parts(path: str) -> list[str]:
    """The name without suffix, then the folders above it."""
    return list(reversed(PurePosixPath(path).with_suffix("").parts))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts are the same from the beginning on."""
    number = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        number += 1
    return number
