"""Which classes of a checkpoint count for each folder of pictures, where the folders are not its classes: ObjectNet.

Barbu et al., "ObjectNet: A Large-Scale Bias-Controlled Dataset for Pushing the Limits of Object Recognition Models",
NeurIPS 2019: 313 folders, of which 113 have one or several classes of ImageNet. A picture is right where the class that
the model chooses among all of its classes is one of its folder's, as the authors' evaluation has it. Their loader cuts
off 2 pixels at each side (abarbu/objectnet-template-pytorch): a red line of 1 pixel, which JPEG smears.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timm.data import ImageNetInfo

from vl_absvit.data.json_files import form_name, read_json
from vl_absvit.errors import InputError
from vl_absvit.tasks.vision_evaluation import JudgedClasses, columns_by_name, imagenet_synsets

LABELS, CLASSES = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"
OBJECTNET_BORDER = 2
OBJECTNET_FOLDERS, OBJECTNET_MAPPED = 313, 113
_SEPARATOR = "; "  # of classes in ObjectNet's file; ImageNet's names have commas


class ClassMapping(NamedTuple):
    """The classes that count for each folder."""

    path: Path
    classes_of: dict[str, list[str]]  # folder -> names of classes, or ImageNet's descriptions of them
    is_objectnets: bool

    @property
    def border(self) -> int:
        """Pixels to cut off from each side of a picture, unless something else is asked for."""
        return OBJECTNET_BORDER if self.is_objectnets else 0


def read_mapping(path: Path) -> ClassMapping:
    """Read a file ``{folder: class or [class, ...]}``, or ObjectNet's own folder ``mappings``.

    Raises:
        InputError: it is neither, or ObjectNet's files do not fit together.
    """
    if not path.is_dir():
        return ClassMapping(path, {name: _listed(path, name, of) for name, of in read_json(path, dict).items()}, False)
    folder_of = {}
    for folder, label in read_json(path / LABELS, dict).items():
        if not isinstance(label, str):
            raise InputError(f"{path / LABELS}: {folder!r:.60}: expected a label, got {form_name(label)}")
        folder_of[label] = folder
    by_label = read_json(path / CLASSES, dict)
    if unknown := [label for label in by_label if label not in folder_of]:
        raise InputError(f"{path / CLASSES}: {len(unknown)} of its labels are not in {LABELS}, e.g. {unknown[0]!r:.60}")
    return ClassMapping(
        path, {folder_of[label]: _listed(path / CLASSES, label, of) for label, of in by_label.items()}, True
    )


def mapped_classes(mapping: ClassMapping, classes: Sequence[str], checkpoint: str | Path) -> JudgedClasses:
    """The folders as classes. All classes of the checkpoint can be chosen.

    Args:
        classes: of the head's rows; see ``judged_classes``.
        checkpoint: named in errors.

    Raises:
        InputError: the checkpoint does not know a class, or one counts for two folders.
    """
    column_of = columns_by_name(classes, checkpoint)
    described = _columns_by_description(column_of)
    names, owners = sorted(mapping.classes_of), np.full(len(column_of), -1)
    for place, folder in enumerate(names):
        for name in mapping.classes_of[folder]:
            column = column_of.get(name, described.get(name))
            if column is None:
                raise InputError(f"{mapping.path}: {folder}: {checkpoint} has no class {name!r:.80}")
            if owners[column] not in (-1, place):
                both = f"{names[owners[column]]} and {folder}"
                raise InputError(f"{mapping.path}: the class {name!r:.80} counts for two folders, {both}")
            owners[column] = place
    return JudgedClasses(names, np.arange(len(column_of)), owners)


def remarks(mapping: ClassMapping, folders: Sequence[str], judged: Sequence[str]) -> list[str]:
    """What is to be said about folders that are missing or left out.

    Args:
        folders: of the data.
        judged: those of them that the mapping has.
    """
    words = []
    if others := sorted({*folders}.difference(judged)):
        words.append(f"{len(others)} folders are not in {mapping.path.name} and left out, e.g. {others[0]}")
    counts = len(folders), len(mapping.classes_of)
    if mapping.is_objectnets and counts != (OBJECTNET_FOLDERS, OBJECTNET_MAPPED):
        words.append(
            f"ObjectNet as published has {OBJECTNET_FOLDERS} folders, {OBJECTNET_MAPPED} of them with classes of "
            f"ImageNet; this has {counts[0]} and {counts[1]}"
        )
    return words


def _columns_by_description(column_of: Mapping[str, int]) -> dict[str, int]:
    """Columns by ImageNet's descriptions of their classes, such as "barber chair"; the two cranes have none."""
    info, found = ImageNetInfo("imagenet-1k"), dict[str, list[int]]()
    for synset in imagenet_synsets():
        if synset in column_of:
            found.setdefault(info.label_name_to_description(synset, detailed=False), []).append(column_of[synset])
    return {words: columns[0] for words, columns in found.items() if len(columns) == 1}


def _listed(path: Path, name: str, of: object) -> list[str]:
    """The classes of one entry."""
    listed = of.split(_SEPARATOR) if isinstance(of, str) else of
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) and each for each in listed):
        raise InputError(f"{path}: {name!r:.60}: expected a class or a list of classes, got {form_name(of)}")
    return listed
