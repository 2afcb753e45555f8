"""Pictures that are the same byte for byte under several names: what is trained on may be judged on unnoticed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from vl_absvit.data.whole_folder import fingerprint


def equal_files(root: Path, files: Iterable[str]) -> list[list[str]]:
    """Groups of files with the same content, each in order of name. Only files of one size are read.

    Args:
        files: their paths below ``root``, which are there.
    """
    by_size: dict[int, list[str]] = {}
    for file in files:
        by_size.setdefault((root / file).stat().st_size, []).append(file)
    by_content: dict[str, list[str]] = {}
    for of_one_size in by_size.values():
        if len(of_one_size) > 1:
            for file in of_one_size:
                by_content.setdefault(fingerprint(root / file)["sha256"], []).append(file)
    return [sorted(group) for group in by_content.values() if len(group) > 1]


def repeats_in_words(groups: Sequence[Sequence[str]], part_of: Mapping[str, Hashable], other: str) -> list[str]:
    """A warning about pictures that are the same byte for byte, if there are any.

    Args:
        groups: paths of pictures with the same content.
        part_of: the part of the data that each of them belongs to.
        other: "in another split", or what parts are called.
    """
    if not groups:
        return []
    across = [group for group in groups if len({part_of[path] for path in group}) > 1]
    first, *rest = (across or groups)[0]
    second = next((path for path in rest if part_of[path] != part_of[first]), rest[0])
    return [
        f"{sum(map(len, groups)) - len(groups)} picture(s) repeat others byte for byte, {len(across)} of these "
        f"{other}, e.g. {first} and {second}"
    ]
