"""Lists of pictures in several domains, in the form of PACS: ``DOMAIN_{train,crossval,test}_kfold.txt``.

Li et al., "Deeper, Broader and Artier Domain Generalization", ICCV 2017, arXiv:1710.03077. A line is
``DOMAIN/CLASS/FILE LABEL``, where labels number the classes. The published lists have three faults, all of them in
``art_painting_crossval``: a label that contradicts its folder (a picture's class is its folder's, here), a line that
stands there twice, and a picture of the domain that is neither there nor in the training list.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vl_absvit.data.class_files import SUFFIXES
from vl_absvit.errors import InputError
from vl_absvit.prepare.caption_source import is_inside
from vl_absvit.prepare.coco_images import DEPTH
from vl_absvit.prepare.text_lines import read_lines

TRAIN, HELD_OUT, ALL = PARTS = ("train", "crossval", "test")
_NAME = re.compile(rf"(.+)_({'|'.join(PARTS)})_kfold\.txt(?:\.gz)?")
_LINE = re.compile(r"(\S.*?)\s+(\d{1,9})\s*")
_MOST_WRONG_LABELS = 0.1  # of all; more, and the lists are of something else


class Listed(NamedTuple):
    """A picture of a list."""

    domain: str
    of_class: str
    file: str
    number: int  # the list's label
    location: str  # file and line, for messages

    @property
    def path(self) -> str:
        """Its place below the folder of the domains."""
        return f"{self.domain}/{self.of_class}/{self.file}"


class Domain(NamedTuple):
    """The pictures of a domain, in the order of its lists."""

    train: list[Listed]
    held_out: list[Listed]  # of training; what is selected on
    whole: list[Listed]  # these and others


class DomainLists(NamedTuple):
    """The pictures of all domains."""

    domains: dict[str, Domain]  # in order of name, as are the classes
    classes: list[str]
    mislabelled: list[Listed]  # whose label is not that of their folder
    repeated: list[Listed]  # lines that name a picture of their list again

    @property
    def pictures(self) -> list[Listed]:
        """Every picture once."""
        return [picture for domain in self.domains.values() for picture in domain.whole]


def find_lists(folder: Path) -> dict[str, dict[str, Path]]:
    """The lists in a folder and a few levels below: domain -> part -> file, in order of name.

    Raises:
        InputError: there is no list, there are two of a name, a domain lacks one, or there is one domain alone.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected lists such as photo_train_kfold.txt in it")
    found: dict[str, dict[str, Path]] = {}
    for path in _files_below(folder, DEPTH):
        if match := _NAME.fullmatch(path.name):
            domain, part = match.groups()
            other = found.setdefault(domain, {}).setdefault(part, path)
            if other != path:
                raise InputError(
                    f"{folder}: two lists of the same pictures, {other} and {path}; say which with --lists"
                )
    if not found:
        raise InputError(f"{folder}: expected lists such as photo_train_kfold.txt, there is none")
    for domain, parts in found.items():
        if lacking := [part for part in (TRAIN, HELD_OUT) if part not in parts]:
            raise InputError(
                f"{folder}: there is no {domain}_{lacking[0]}_kfold.txt beside {next(iter(parts.values()))}"
            )
    if len(found) < 2:
        raise InputError(
            f"{folder}: expected lists of two domains at least, there are those of {next(iter(found))} alone"
        )
    return dict(sorted(found.items()))


def read_domains(lists: Mapping[str, Mapping[str, Path]]) -> DomainLists:
    """The pictures of all lists.

    Args:
        lists: as ``find_lists`` gives them. ``test``, the whole domain, may be missing; it is then the other two.

    Raises:
        InputError: a line has another form or names a picture of another domain; a picture is both trained on and held
            out, or missing in ``test``; labels are not those of the folders.
    """
    domains, lines, repeated = {}, [], []
    for name, files in lists.items():
        parts: dict[str, dict[str, Listed]] = {}
        for part in PARTS:
            of_list = _read_list(files[part], name) if part in files else []
            parts[part] = {}
            for picture in of_list:
                if parts[part].setdefault(picture.path, picture) != picture:
                    repeated.append(picture)
            lines += of_list
        _check_parts(parts, files)
        train, held_out, whole = (list(of_part.values()) for of_part in parts.values())
        domains[name] = Domain(train, held_out, whole or [*train, *held_out])
    return DomainLists(domains, sorted({line.of_class for line in lines}), _mislabelled(lines), repeated)


def _read_list(path: Path, domain: str) -> list[Listed]:
    """The lines of one list."""
    pictures = []
    for location, line in read_lines(path):
        match = _LINE.fullmatch(line)
        place = PurePosixPath(match[1]) if match else PurePosixPath()
        if not match or len(place.parts) != 3 or not is_inside(place):
            raise InputError(f"{location}: expected DOMAIN/CLASS/FILE and a label, got {line!r:.120}")
        picture = Listed(*place.parts, int(match[2]), location)
        if picture.domain != domain:
            raise InputError(f"{location}: expected a picture of {domain}, as the list's name says, got {picture.path}")
        if place.suffix.lower() not in SUFFIXES:
            raise InputError(f"{location}: expected a picture ({' '.join(SUFFIXES)}), got {picture.path}")
        pictures.append(picture)
    if not pictures:
        raise InputError(f"{path}: the list is empty")
    return pictures


def _check_parts(parts: Mapping[str, Mapping[str, Listed]], files: Mapping[str, Path]) -> None:
    """Training and held-out pictures share none, and all of them are in the whole domain."""
    train, held_out, whole = (parts[part].keys() for part in PARTS)
    if shared := train & held_out:
        raise InputError(
            f"{files[HELD_OUT]}: {len(shared)} of its pictures are in {files[TRAIN].name}, too, e.g. {min(shared)}; "
            "what is selected on must not be trained on"
        )
    if whole and (outside := (train | held_out) - whole):
        raise InputError(
            f"{files[ALL]}: expected the whole domain, but {len(outside)} pictures of the other two lists are not in "
            f"it, e.g. {min(outside)}"
        )


def _mislabelled(pictures: Sequence[Listed]) -> list[Listed]:
    """The pictures whose label is not the one that most pictures of their folders have."""
    counts: dict[str, Counter[int]] = {}
    for picture in pictures:
        counts.setdefault(picture.of_class, Counter())[picture.number] += 1
    label_of = {name: numbers.most_common(1)[0][0] for name, numbers in counts.items()}
    wrong = [picture for picture in pictures if picture.number != label_of[picture.of_class]]
    if len(wrong) > _MOST_WRONG_LABELS * len(pictures):
        raise InputError(
            f"{wrong[0].location}: label {wrong[0].number} of {wrong[0].path}: expected a label for each folder of a "
            f"class; {len(wrong)} of {len(pictures)} pictures have another than most of their folder"
        )
    for number, names in _by_label(label_of).items():
        if len(names) > 1:
            raise InputError(f"the lists give the classes {' and '.join(sorted(names))} the same label {number}")
    return wrong


def _by_label(label_of: Mapping[str, int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, number in label_of.items():
        names.setdefault(number, []).append(name)
    return names


def _files_below(folder: Path, depth: int) -> Iterator[Path]:
    """All files in a folder and some levels below, in order of name."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    for name, is_folder in found:
        if not is_folder:
            yield folder / name
        elif depth:
            yield from _files_below(folder / name, depth - 1)
