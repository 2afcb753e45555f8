"""What an evaluation of a classifier is asked, and its result as a record: in words, and in numbers.

Shapes: I images, C judged classes.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from vl_absvit.data.class_files import class_names
from vl_absvit.data.corruptions import Corruption
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import Attack
from vl_absvit.evaluation.classification_metrics import KS, ClassCounts, clamped, corruption_scores, count_top_k
from vl_absvit.evaluation.gradient_masking import AttackRow
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.tasks.class_mapping import ClassMapping, remarks
from vl_absvit.tasks.vision_evaluation import (
    SUBSETS,
    CorruptionFolders,
    JudgedClasses,
    Outcome,
    Preparation,
    look_in_words,
)


class Question(NamedTuple):
    """Which classes are judged, on which pictures."""

    classes: JudgedClasses
    prepared: Preparation
    border: int  # pixels that are cut off from each side of a picture first
    mapping: ClassMapping | None  # where folders are not the checkpoint's classes
    corruptions: CorruptionFolders | None  # ImageNet-C's, where the data is that


class Job(NamedTuple):
    """One reading of the images of a folder."""

    folder: Path
    transform: ImageTransform
    corruption: Corruption | None = None  # of ImageNet-C, or made here
    change: Callable[[Tensor, Tensor, list[int]], Tensor] | None = None  # see ``judge_folder``
    attack: Attack | None = None  # which ``change`` makes
    source: str | None = None  # the checkpoint whose gradients it follows; None for the judged one


def check_alike(counts: Mapping[Path, Mapping[str, int]], data: Path) -> None:
    """Stop where a folder lacks images of a class that others have: all folders are the same images, corrupted."""
    most = {name: max(of_classes[name] for of_classes in counts.values()) for name in next(iter(counts.values()))}
    short = {folder: sum(of_classes.values()) for folder, of_classes in counts.items() if of_classes != most}
    if short:
        folder, images = next(iter(short.items()))
        raise InputError(
            f"{data}: expected the same {sum(most.values())} images in every folder, but {len(short)} of {len(counts)} "
            f"have fewer, e.g. {folder.relative_to(data)} {images}"
        )


def describe(
    arguments: argparse.Namespace,
    checkpoint: str,
    vision: VisualEncoder,
    question: Question,
    counts: Mapping[Path, Mapping[str, int]],
) -> dict[str, Any]:
    """The entries of the result that say what was done.

    Args:
        counts: images of every class, by folder.
    """
    prepared, number = question.prepared, len(question.classes.names)
    of_classes, images = next(iter(counts.values())), sum(sum(each.values()) for each in counts.values())
    what, notes = _pictures_in_words(arguments, question, of_classes, images)
    if lacking := [name for name in question.classes.names if name not in of_classes]:
        notes.append(f"{len(lacking)} classes have no images: {', '.join(lacking[:5])}")
    size, resized_to, look = prepared.image_size, prepared.transform.resized_to, look_in_words(vision.variant)
    assert resized_to is not None, "evaluation cuts the middle out of a resized picture"
    crop = f"the shorter side resized to {resized_to} px, the middle {size} x {size} px seen"
    if question.border:
        crop = f"{question.border} px cut off at each side, {crop}"
    if question.corruptions is not None:
        crop += " (ImageNet-C's images have been cut before)"
    return {
        "protocol": f"{vision.label} {checkpoint} on {what}; {crop}; {look}; in {arguments.precision}; "
        "ties count against the model",
        "notes": notes,
        "checkpoint": checkpoint,
        "data": str(arguments.data),
        "subset": arguments.subset,
        "mapping": None if question.mapping is None else str(question.mapping.path),
        "model": vision.label,
        "look": look,
        "precision": arguments.precision,
        "resolution": size,
        "crop": round(size / resized_to, 4),
        "border": question.border,
        "classes": number,
        "images": images,
    }


def _pictures_in_words(
    arguments: argparse.Namespace, question: Question, of_classes: Mapping[str, int], images: int
) -> tuple[str, list[str]]:
    """The images, and remarks on how they differ from published ones.

    Args:
        of_classes: images of every class in each folder.
        images: in all folders together.
    """
    subset, classes, corruptions = SUBSETS.get(arguments.subset), question.classes, question.corruptions
    notes = clamped(len(classes.columns))
    what = f"{arguments.data}, {images} images of {len(classes.names)} classes"
    if subset is not None:
        others = "" if subset.synsets is None else "; no other class of the checkpoint can be chosen"
        what += f" ({subset.name}{others})"
        if images != subset.images:
            notes.append(f"{subset.name} as published has {subset.images} images, this has {images}")
        if subset.of_each is not None and (few := [n for n in of_classes if of_classes[n] < subset.of_each]):
            least = min(few, key=of_classes.__getitem__)
            notes.append(
                f"{len(few)} classes have fewer images than the {subset.of_each} of each that were announced, {least} "
                f"the fewest, {of_classes[least]}"
            )
    if question.mapping is not None:
        what += f" ({question.mapping.path}; all {len(classes.columns)} classes of the checkpoint can be chosen)"
        notes += remarks(question.mapping, class_names(arguments.data), list(of_classes))
    if corruptions is not None:
        what += f" in {75 - len(corruptions.missing)} of ImageNet-C's 75 folders"
        if corruptions.missing:
            notes.append(f"no mCE, since these are missing: {', '.join(corruptions.missing)}")
        if corruptions.ignored:
            notes.append(f"not evaluated: {', '.join(corruptions.ignored)}")
    if arguments.corrupt:
        what += f", as they are and in {len(arguments.corrupt)} corruptions made of them"
        notes.append("ImageNet-C's files were saved as JPEG once more; the corruptions made here were not")
    if (arguments.corrupt or corruptions is not None) and not classes.are_imagenets:
        notes.append("AlexNet's errors are of ImageNet's 1,000 classes; these are others, so no CE compares with it")
    return what, notes


def scores_of(question: Question, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers: accuracies, and what corruptions and attacks left of them, as they were asked for.

    ``attacks`` is a list of ``AttackRow``.
    """
    names, done = question.classes.names, list(zip(jobs, outcomes, strict=True))
    of_imagenet_c = question.corruptions is not None
    clean = [outcome for job, outcome in done if job.attack is None and (job.corruption is None or of_imagenet_c)]
    corrupted = {job.corruption: outcome for job, outcome in done if job.corruption is not None}
    result = accuracies(clean, names)
    if question.corruptions is not None:
        result |= corruption_errors(corrupted, len(names))
        result |= {"missing": question.corruptions.missing, "ignored": question.corruptions.ignored}
    elif corrupted:
        result |= corruption_errors(corrupted, len(names), 100 - result["top1"])
    attacked = [
        AttackRow(job.attack, job.source, _count([outcome], len(names)).accuracy(1))
        for job, outcome in done
        if job.attack is not None
    ]
    return result | ({"attacks": attacked} if attacked else {})


def accuracies(outcomes: Sequence[Outcome], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy over all images, and the counts of every class."""
    counts = _count(outcomes, len(names))
    tops = {f"top{k}": counts.right[k].tolist() for k in KS}
    rows = zip(counts.images.tolist(), *tops.values(), strict=True)
    per_class = {name: dict(zip(["images", *tops], row, strict=True)) for name, row in zip(names, rows, strict=True)}
    return {f"top{k}": counts.accuracy(k) for k in KS} | {"per_class": per_class}


def corruption_errors(
    outcomes: Mapping[Corruption, Outcome], num_classes: int, clean_error: float | None = None
) -> dict[str, Any]:
    """Error per corruption and severity, and what follows from them.

    Args:
        clean_error: on the same images as they are, in percent, if it is known.
    """
    errors: dict[str, dict[int, float]] = {}
    for corruption, outcome in outcomes.items():
        of_one = errors.setdefault(corruption.name, {})
        of_one[corruption.severity] = 100 - _count([outcome], num_classes).accuracy(1)
    scores = corruption_scores(errors, clean_error)
    per_corruption = {
        name: {"error": of_one, "mean_error": scores.mean_errors[name], "ce": scores.corruption_errors.get(name)}
        for name, of_one in errors.items()
    }
    return {
        "mce": scores.mce,
        "relative_mce": scores.relative_mce,
        "mean_error": scores.mean_error,
        "corruptions": per_corruption,
    }


def _count(outcomes: Sequence[Outcome], num_classes: int) -> ClassCounts:
    ranks, labels = (np.concatenate([getattr(each, field) for each in outcomes]) for field in ("ranks", "labels"))
    return count_top_k(ranks, labels, num_classes)
