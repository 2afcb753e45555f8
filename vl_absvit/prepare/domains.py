"""From lists of pictures in several domains, such as PACS, to folders that leave out one domain each.

``OUT/TARGET/{train,val,test}/CLASS/DOMAIN-FILE``: ``train`` and ``val`` are the training and the held-out pictures of
all other domains, ``test`` is the whole target. A picture is written once; its other places are links to it.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vl_absvit.cli import progress
from vl_absvit.data.bounded import read_picture
from vl_absvit.data.class_files import ImageFiles, class_names
from vl_absvit.data.whole_folder import (
    CHECKED,
    finish,
    finished,
    make_request,
    partial_folder,
    start_or_continue,
    versions,
)
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import Images, check_images, words_for_bad
from vl_absvit.prepare.domain_faults import (
    faults_in_words,
    missing_in_words,
    parts_of,
    published_in_words,
    unlisted_in_words,
)
from vl_absvit.prepare.domain_folders import DomainFolders
from vl_absvit.prepare.domain_lists import DomainLists, Listed, find_lists, read_domains
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.repeats import repeats_in_words

KIND = "domains"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class DomainOptions:
    """The options that the prepared folder depends on."""

    root: Path
    lists: Path | None = None
    allow_missing_images: bool = False


def prepare_domains(options: DomainOptions, output: Path, workers: int) -> dict[str, Any]:
    """Prepare ``output`` and return its manifest. A finished ``output`` is only compared with the request.

    Args:
        workers: processes that check pictures.

    Raises:
        InputError: lists or pictures have a fault, or ``output`` was made from others.
    """
    if not options.root.is_dir():
        raise InputError(f"{options.root}: no such folder; expected DOMAIN/CLASS/FILE in it")
    files = find_lists(options.lists or options.root)
    settings = {"allow_missing_images": options.allow_missing_images}
    request = make_request(KIND, options.root, settings, [path for parts in files.values() for path in parts.values()])
    if manifest := finished(output, request):
        return manifest
    partial = partial_folder(output)
    start_or_continue(partial, request)
    with Journal(partial / CHECKED) as journal:
        lists = read_domains(files)
        listed = lists.pictures
        finder = DomainFolders(options.root, list(lists.domains))
        images = Images(options.root, {number: one.path for number, one in enumerate(listed)}, finder, "labels")
        missing = missing_in_words(images, finder, allowed=options.allow_missing_images)
        check_images(images, journal, workers)
    usable = {listed[number].path: options.root / images.files[number] for number in images.sizes}
    split_of = _splits(lists, usable)
    repeated = _write_pictures(partial, split_of, usable)
    warnings = [
        *missing, *faults_in_words(lists), *words_for_bad(images, images.skipped(_ids_by_domain(listed))),
        *published_in_words(lists), *repeats_in_words(repeated, parts_of(lists), "in another domain or part"),
        *unlisted_in_words(finder, lists),
    ]  # fmt: skip
    manifest = {
        "format": 1,
        **request,
        "classes": lists.classes,
        "splits": {
            target: {split: _counts(pictures) for split, pictures in of_target.items()}
            for target, of_target in split_of.items()
        },
        "content": {target: {split: _content(partial / target / split) for split in SPLITS} for target in split_of},
        "mislabelled_lines": [f"{one.location}: {one.path} has label {one.number}" for one in lists.mislabelled],
        "repeated_lines": [f"{one.location}: {one.path}" for one in lists.repeated],
        "missing_images": len(images.missing),
        "skipped_images": images.skipped_images(),
        "versions": versions(),
        # File names may be in any encoding.
        "warnings": [words.encode("utf-8", "backslashreplace").decode("utf-8") for words in warnings],
    }
    finish(partial, output, manifest)
    return manifest


def _ids_by_domain(listed: Sequence[Listed]) -> dict[str, np.ndarray]:
    """Domain -> numbers of its pictures."""
    names = np.array([one.domain for one in listed])
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def _splits(lists: DomainLists, usable: Mapping[str, Path]) -> dict[str, dict[str, list[Listed]]]:
    """Target -> split -> its pictures.

    Raises:
        InputError: a split has no picture of a class.
    """
    split_of: dict[str, dict[str, list[Listed]]] = {}
    for target, whole in lists.domains.items():
        others = [domain for name, domain in lists.domains.items() if name != target]
        pictures = {
            "train": [one for domain in others for one in domain.train],
            "val": [one for domain in others for one in domain.held_out],
            "test": whole.whole,
        }
        split_of[target] = {split: [one for one in of if one.path in usable] for split, of in pictures.items()}
        for split, found in split_of[target].items():
            if lacking := sorted({*lists.classes} - {one.of_class for one in found}):
                where = f"{target}" if split == "test" else f"the domains beside {target}, to {split} on,"
                raise InputError(f"{where} have no picture of {', '.join(lacking)}; all domains need all classes")
    return split_of


def _write_pictures(
    folder: Path, split_of: Mapping[str, Mapping[str, Sequence[Listed]]], usable: Mapping[str, Path]
) -> list[list[str]]:
    """Write every picture to its places. Returns groups of paths whose pictures are the same byte for byte."""
    places: dict[str, list[Path]] = {}
    for target, splits in split_of.items():
        shutil.rmtree(folder / target, ignore_errors=True)  # of an interrupted run
        for split, pictures in splits.items():
            for one in pictures:
                (folder / target / split / one.of_class).mkdir(parents=True, exist_ok=True)
                place = folder / target / split / one.of_class / f"{one.domain}-{one.file}"
                places.setdefault(one.path, []).append(place)
    by_content: dict[bytes, list[str]] = {}
    with progress() as bar:
        for path, (first, *others) in bar.track(places.items(), total=len(places), description="writing pictures"):
            content = read_picture(usable[path])
            by_content.setdefault(hashlib.sha256(content).digest(), []).append(path)
            with first.open("xb") as stream:
                stream.write(content)
            for other in others:
                _link(first, other)
    return [sorted(group) for group in by_content.values() if len(group) > 1]


def _link(picture: Path, other: Path) -> None:
    """Make a second name of a file, or a copy where the file system has no such thing."""
    try:
        os.link(picture, other)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(picture, other)


def _counts(pictures: Sequence[Listed]) -> dict[str, Any]:
    """Pictures of a split, in all and by domain and class."""
    by_domain: dict[str, dict[str, int]] = {}
    for one in pictures:
        of_domain = by_domain.setdefault(one.domain, {})
        of_domain[one.of_class] = of_domain.get(one.of_class, 0) + 1
    return {"images": len(pictures), "domains": by_domain}


def _content(split: Path) -> str:
    """What tells a split's pictures and classes from others, as trainings note it."""
    return ImageFiles((split / name, label) for label, name in enumerate(class_names(split))).content()
