"""Labelled pixels of one's own: ROOT/images/SPLIT/NAME.jpg, ROOT/labels/SPLIT/NAME.png and ROOT/classes.txt.

The folders may also be called ``pictures`` and ``masks``, as the demo's are.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from vl_absvit.data.segmentation_labels import standard_colours
from vl_absvit.errors import InputError
from vl_absvit.prepare.segmentation_source import Layout, Pair, SegmentationSet, numbered_from_0
from vl_absvit.prepare.text_lines import read_lines

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
IMAGES, LABELS = ("images", "pictures"), ("labels", "masks")
MOST_CLASSES = 255  # whose numbers and that of void are 8 bits wide


def read(root: Path) -> Layout:
    """The pictures of every folder below ``images``, with labels where ``labels`` has a folder of that name."""
    images = next((root / name for name in IMAGES if (root / name).is_dir()), None)
    labels = next((name for name in LABELS if (root / name).is_dir()), LABELS[0])
    if images is None:
        raise InputError(f"{root / IMAGES[0]}: no such folder; expected a folder of pictures for each split in it")
    classes = root / "classes.txt"
    names = read_classes(classes)
    folders = sorted(entry.name for entry in images.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    folders.sort(key=lambda split: split != "train")  # training first
    splits = {split: pairs_in(root, images.name, labels, split) for split in folders}
    if not splits:
        raise InputError(f"{images}: expected a folder of pictures for each split in it, found none")
    return Layout(root, splits, names, standard_colours(len(names)), numbered_from_0(len(names)), [classes])


def pairs_in(root: Path, images: str, labels: str, split: str) -> list[Pair]:
    """The pictures of a split with their labels, by name. A split without a folder of labels has none.

    Raises:
        InputError: there is no picture, two pictures have one name, or a picture or a label stands alone.
    """
    files = _by_stem(root / images / split, SUFFIXES)
    if not files:
        raise InputError(f"{root / images / split}: expected pictures, found none")
    if not (root / labels / split).is_dir():
        return [Pair(name, f"{images}/{split}/{file}", None) for name, file in files.items()]
    of_labels = _by_stem(root / labels / split, (".png",))
    for one, other, what in ((files, of_labels, "label"), (of_labels, files, "picture")):
        if alone := sorted(one.keys() - other.keys()):
            more = f" (nor have {len(alone) - 1} more)" if len(alone) > 1 else ""
            folder = root / (images if what == "label" else labels) / split
            raise InputError(f"{folder / one[alone[0]]}: has no {what}{more}")
    return [
        Pair(name, f"{images}/{split}/{file}", f"{labels}/{split}/{of_labels[name]}") for name, file in files.items()
    ]


def read_classes(path: Path) -> list[str]:
    """Names of classes, one a line; their numbers count from 0.

    Raises:
        InputError: the list is missing, empty, too long, or names a class twice.
    """
    names = [line.strip() for _, line in read_lines(path)]
    if not 0 < len(names) <= MOST_CLASSES:
        raise InputError(f"{path}: expected the names of 1 to {MOST_CLASSES} classes, one a line, got {len(names)}")
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise InputError(f"{path}: the class {twice[0]!r:.60} stands there twice")
    return names


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Name without ending -> file, by name."""
    found: dict[str, str] = {}
    for file in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(file)
        if suffix.lower() not in suffixes or file.startswith("."):
            continue
        if stem in found:
            raise InputError(f"{folder}: {found[stem]} and {file} have one name")
        found[stem] = file
    return found


SETS = {"folder": SegmentationSet("a folder of one's own", {}, read)}
