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


def only_listed(entries: Sequence[dict[str, Any]], names: Sequence[str], place: object) -> list[dict[str, Any]]:
    """The lines of an index whose pictures a list names, by the ends of their paths, in the list's order.

    Raises:
        InputError: a listed picture was not exported, or two were that it may be.
    """
    by_end: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        parts = _parts(entry["image"])
        for length in range(1, len(parts) + 1):
            by_end.setdefault("/".join(parts[:length]), []).append(entry)
    listed = []
    for name in names:
        found = by_end.get("/".join(_parts(name)), [])
        if len({entry["image"] for entry in found}) != 1:
            got = "was not exported" if not found else f"may be {found[0]['image']} or {found[1]['image']}"
            raise InputError(f"{place}: {name!r:.80} {got}")
        listed += found
    return listed


def _parts(path: str) -> list[str]:
    """The name without suffix, then the folders above it."""
    return [part for part in reversed(PurePosixPath(path).with_suffix("").parts) if part != "/"]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts are the same from the beginning on."""
    number = 0
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            break
        number += 1
    return number
