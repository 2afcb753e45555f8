"""Evaluation of a pretrained classifier on folders of images.

Shapes: I images, C judged classes.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from timm.data import ImageNetInfo
from torch import Tensor

from vl_absvit.data.class_files import class_names, image_files
from vl_absvit.data.class_folders import ImageFolderDataset
from vl_absvit.data.corruptions import SEVERITIES, Corruption
from vl_absvit.data.json_files import read_json
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.distributed import gather_objects
from vl_absvit.errors import InputError
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS, label_ranks, subset_logits
from vl_absvit.models.heads import Classifier
from vl_absvit.tasks.classifier_checkpoint import STATISTICS, ClassifierCheckpoint
from vl_absvit.tasks.own_share import own_share
from vl_absvit.variants import Variant


class Subset(NamedTuple):
    """Other images of ImageNet's classes, or of some of them, on which the others cannot be chosen."""

    name: str
    synsets: str | None  # timm's list of its classes; None: all
    images: int  # of the published data set
    of_each: int | None = None  # of each class as announced, which copies do not keep to; None: every copy is alike


SUBSETS = {
    "imagenet-a": Subset("ImageNet-A", "imagenet_a_synsets.txt", 7_500),
    "imagenet-r": Subset("ImageNet-R", "imagenet_r_synsets.txt", 30_000),
    "imagenet-sketch": Subset("ImageNet-Sketch", None, 50_889, of_each=50),
}
"""[VARS, Table 1.2] and [AbS, Table 2.2] have all three. ImageNet-Sketch (Wang et al., NeurIPS 2019, arXiv:1905.13549)
was announced with 50 images of each class; its archive is said to have 50,889, its list of files has 50,874 in 998
folders."""


class JudgedClasses(NamedTuple):
    """The classes that a model chooses from."""

    names: list[str]  # C, the class folders of the data
    columns: np.ndarray  # (K,), the model's logits that are compared
    owners: np.ndarray | None = None  # (K,), which class each stands for, -1 for none; None: C of them, in this order

    @property
    def are_imagenets(self) -> bool:
        """Whether these are the 1,000 classes of ImageNet, in whatever order."""
        return sorted(self.names) == sorted(imagenet_synsets())


def imagenet_synsets() -> list[str]:
    """The WordNet ids of ImageNet's 1,000 classes, in the order of everybody's logits."""
    return ImageNetInfo("imagenet-1k").label_names()


def subset_synsets(subset: str) -> list[str]:
    """The WordNet ids of a subset's classes."""
    listed = SUBSETS[subset].synsets
    if listed is None:
        return imagenet_synsets()
    return (files("timm.data") / "_info" / listed).read_text(encoding="utf-8").split()


def columns_by_name(classes: Sequence[str], checkpoint: str | Path) -> dict[str, int]:
    """The column of each class of a checkpoint; see ``judged_classes``."""
    synsets = imagenet_synsets()
    numbered = list(classes) == [str(number) for number in range(len(synsets))]
    column_of = {name: column for column, name in enumerate(synsets if numbered else classes)}
    if len(column_of) != len(classes):
        raise InputError(f"{checkpoint}: {len(classes) - len(column_of)} of its {len(classes)} classes are named twice")
    return column_of


def judged_classes(classes: Sequence[str], subset: str | None, checkpoint: str | Path) -> JudgedClasses:
    """The classes of a checkpoint, or a subset of them.

    Args:
        classes: of the head's rows. A converted checkpoint numbers them; a thousand numbers are ImageNet's classes in
            their usual order, which no folder of ours gives, since folders are sorted as text.
        subset: a key of ``SUBSETS``.
        checkpoint: named in errors.

    Raises:
        InputError: a class is named twice, or the checkpoint does not know the subset's classes.
    """
    column_of = columns_by_name(classes, checkpoint)
    names = list(column_of) if subset is None else subset_synsets(subset)
    unknown = [name for name in names if name not in column_of]
    if unknown:
        assert subset is not None, "a checkpoint knows its own classes"
        raise InputError(
            f"{checkpoint}: expected a classifier that knows the {len(names)} classes of {SUBSETS[subset].name}, but "
            f"{len(unknown)} of them are not among its {len(classes)}, e.g. {unknown[0]}"
        )
    return JudgedClasses(names, np.array([column_of[name] for name in names]))


def count_images(
    folder: Path, classes: JudgedClasses, may_lack: bool = False, may_have_others: bool = False
) -> dict[str, int]:
    """Images of every judged class's folder, by name.

    Args:
        may_lack: classes may have no folder.
        may_have_others: there may be other folders, which are left out.

    Raises:
        InputError: the class folders are not the judged classes, none is, or one is empty.
    """
    folders, expected = class_names(folder), set(classes.names)
    found = [name for name in folders if name in expected]
    faults = {} if may_have_others else {"are no class of the checkpoint": sorted({*folders}.difference(found))}
    if not may_lack or not found:
        faults["are missing"] = sorted(expected.difference(found))
    wrong = [f"{len(names)} {fault}, e.g. {names[0]}" for fault, names in faults.items() if names]
    if wrong:
        raise InputError(f"{folder}: expected a folder for each of {len(expected)} classes: {'; '.join(wrong)}")
    return {name: len(image_files(folder / name)) for name in found}


class CorruptionFolders(NamedTuple):
    """The parts of ImageNet-C in a folder."""

    present: dict[str, dict[int, Path]]  # by corruption in the paper's order, then severity
    missing: list[str]  # "frost/3", ...
    ignored: list[str]  # folders that are none of the 75


def find_corruptions(root: Path, allow_missing: bool) -> CorruptionFolders:
    """The folders CORRUPTION/SEVERITY below ``root``.

    Raises:
        InputError: one of the 75 is missing and that is not allowed, or all are.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one folder per corruption in it")
    folders = {
        name: {
            severity: root / name / str(severity) for severity in SEVERITIES if (root / name / str(severity)).is_dir()
        }
        for name in ALEXNET_ERRORS
    }
    present = {name: by_severity for name, by_severity in folders.items() if by_severity}
    absent = {name: [s for s in SEVERITIES if s not in folders[name]] for name in ALEXNET_ERRORS}
    missing = [f"{name}/{severity}" for name, severities in absent.items() for severity in severities]
    ignored = _other_folders(root, present)
    if missing and not (allow_missing and present):
        listed = ", ".join(
            f"{name} {' '.join(map(str, severities))}" for name, severities in absent.items() if severities
        )
        instead = f"; found instead: {', '.join(ignored[:5])}" if ignored else ""
        hint = "; --allow-missing does without them, and without an mCE" if present else ""
        raise InputError(
            f"{root}: expected CORRUPTION/SEVERITY/CLASS/IMAGE of 15 corruptions in severities 1 to 5; "
            f"{len(missing)} of 75 are missing: {listed}{instead}{hint}"
        )
    return CorruptionFolders(present, missing, ignored)


def _other_folders(root: Path, present: Mapping[str, Mapping[int, Path]]) -> list[str]:
    """Folders below ``root``, and below the corruptions in it, that are not evaluated."""
    known = {str(severity) for severity in SEVERITIES}
    others = [entry for entry in root.iterdir() if entry.name not in ALEXNET_ERRORS]
    for name in present:
        others += [entry for entry in (root / name).iterdir() if entry.name not in known]
    return sorted(
        entry.relative_to(root).as_posix() for entry in others if entry.is_dir() and not entry.name.startswith(".")
    )


class Outcome(NamedTuple):
    """The result for every image of a folder, in order of class folder and file name."""

    labels: np.ndarray  # (I,), place of its class among the judged ones
    ranks: np.ndarray  # (I,), how many wrong classes stand before it or level with it


@torch.no_grad()
def judge_folder(
    model: Classifier,
    folder: Path,
    transform: ImageTransform,
    classes: JudgedClasses,
    *,
    batch_size: int,
    num_workers: int,
    advance: Callable[[int], object],
    change: Callable[[Tensor, Tensor, list[int]], Tensor] | None = None,
) -> Outcome:
    """Classify every image of a folder by the last look, each in one of the processes; the result is in all of them.

    Args:
        model: in evaluation mode, on its device.
        folder: with one folder per judged class, see ``count_images``.
        batch_size: images per process and forward pass.
        advance: receives how many images this process has done since the last call.
        change: what happens to images before they are judged, by their labels, (I,), and their places in the folder.

    Raises:
        InputError: an image cannot be read, or the model's logits are not finite.
    """
    place_of = {name: place for place, name in enumerate(classes.names)}
    dataset = ImageFolderDataset(folder, ["."], transform, only=place_of)
    places = np.array([place_of[name] for name in dataset.classes])
    loader = own_share(dataset, batch_size=batch_size, num_workers=num_workers)
    device = next(model.parameters()).device
    own_records: list[tuple[int, int, int]] = []
    for batch in loader:
        labels = places[batch.labels[:, 0].numpy()]
        images = send_to_device(batch.images, device)
        if change is not None:
            images = change(images, torch.from_numpy(labels).to(device), batch.indices.tolist())
        logits = model(images).last_logits
        if not torch.isfinite(logits).all():
            raise InputError(f"{folder}: the checkpoint gives logits that are not finite")
        ranks = label_ranks(subset_logits(logits.float().cpu().numpy(), classes.columns), labels, classes.owners)
        own_records += zip(batch.indices.tolist(), labels.tolist(), ranks.tolist(), strict=True)
        advance(len(labels))
    records = sorted(gather_objects(own_records))
    assert [index for index, *_ in records] == list(range(len(dataset))), "each image exactly once"
    _, labels, ranks = (np.array(column) for column in zip(*records, strict=True))
    return Outcome(labels, ranks)


class Preparation(NamedTuple):
    """The transform from pictures to inputs, and its size."""

    transform: ImageTransform
    image_size: int  # pixels a side of the square that is cut out of the middle
    image_mean: tuple[float, ...]  # of each channel, in [0, 1]
    image_std: tuple[float, ...]


def preparation(
    folder: str | Path,
    checkpoint: ClassifierCheckpoint,
    already_cut: bool,
    corruption: Corruption | None = None,
    border: int = 0,
) -> Preparation:
    """The preparation of a checkpoint's inputs.

    Args:
        folder: the checkpoint's.
        already_cut: the pictures are middles that were cut out before, as ImageNet-C's are; they are seen to the edge.
        corruption: of every picture after it has been cut.
        border: pixels that are cut off from each side of a picture first.
    """
    statistics = read_json(Path(folder) / STATISTICS, dict)
    size, transform = statistics["image_size"], checkpoint.transform
    mean, std = (tuple(statistics[name]) for name in ("image_mean", "image_std"))
    if already_cut or corruption is not None or border:
        crop_pct = 1.0 if already_cut else statistics.get("crop_pct", 1.0)
        transform = image_transform(size, mean, std, crop_pct=crop_pct, corrupt=corruption, border=border)
    return Preparation(transform, size, mean, std)


def look_in_words(variant: Variant) -> str:
    """The look that a model of this kind classifies by, in words."""
    if variant.looks_twice:
        steering = "steered by the trainable query" if variant.uses_prior else "to which all tokens are fed back"
        return f"the second look, {steering}"
    return "the first look, " + ("reweighted by the trainable query" if variant.uses_prior else "its only one")
