"""Classify images: top-1 and top-5 on an image folder, on ImageNet-A, -R and -Sketch, or the mCE of ImageNet-C.

vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --output val.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet-r --subset imagenet-r --output r.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet-c --corruptions --output c.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --corrupt all --output val_c.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --attack pgd --eps 1 2 4 8 --steps 5 20 --output pgd.json
DIR is a checkpoint of a pretraining, or one that vl-absvit convert-released made. The data has one folder per class
and is named as the checkpoint's classes are: for a converted one as ImageNet's, n01440764 and so on. ImageNet-C is
CORRUPTION/SEVERITY/CLASS/IMAGE; --corrupt makes its corruptions of any pictures. The result says in words what was
done; beside it, a result with corruptions has curves as a picture.
Also under torchrun or accelerate launch.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_loading_options,
    check_loading_options,
    progress,
    run_main,
)
from vl_absvit.data.corruptions import add_corruption_options, corruptions_of
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import add_attack_options, attacks_of
from vl_absvit.evaluation.gradient_masking import AttackRow, masking_signs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vl_absvit.tasks.vision_evaluation import CorruptionFolders, JudgedClasses, Outcome, Preparation
    from vl_absvit.training.evaluated import Evaluated
    from vl_absvit.variants import Variant

IN_WHOLE = ""  # the one folder of data that is not in parts


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.tasks.classification import ClassificationTask
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, ClassificationTask.load, classify)


def classify(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """All images of the data."""
    from vl_absvit.data.json_files import write_json
    from vl_absvit.distributed import is_main, world_size
    from vl_absvit.evaluation.corruption_plot import draw_corruptions
    from vl_absvit.hub import find
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.classifier_attack import Source, other_source
    from vl_absvit.tasks.vision_evaluation import (
        SUBSETS,
        count_images,
        find_corruptions,
        judge_folder,
        judged_classes,
        preparation,
    )

    checkpoint, subset = found.checkpoint, SUBSETS.get(arguments.subset)
    classes = judged_classes(checkpoint.classes, arguments.subset, found.folder)
    prepared = preparation(found.folder, checkpoint, already_cut=arguments.corruptions)
    corruptions, folders = None, {IN_WHOLE: arguments.data}
    if arguments.corruptions:
        corruptions = find_corruptions(arguments.data, arguments.allow_missing)
        folders = {
            f"{name}/{severity}": folder
            for name, by_severity in corruptions.present.items()
            for severity, folder in by_severity.items()
        }
    made = {
        f"{one.name}/{one.severity}": preparation(found.folder, checkpoint, already_cut=False, corruption=one).transform
        for one in arguments.corrupt
    }
    model, started = checkpoint.model, time.monotonic()
    sources: dict[str | None, Source] = {}  # by name, None for the judged checkpoint itself
    if arguments.attacks:
        sources[None] = Source(model, classes.columns, prepared)
    if arguments.transfer_from is not None:
        other = find(arguments.transfer_from, "--transfer-from")
        sources[other.name] = other_source(other.path, classes, arguments.subset, prepared, found.device)
    with progress() as bar, arithmetic(arguments.precision, found.device):
        counts = {
            name: count_images(folder, classes, may_lack=subset is not None and not subset.has_all_classes)
            for name, folder in bar.track(folders.items(), description="counting images")
        }
        check_alike(counts, arguments.data)
        images = [sum(of_classes.values()) for of_classes in counts.values()]
        total = sum(-(-number // world_size()) for number in images)
        shown = bar.add_task("classifying", total=total * (1 + len(made) + len(sources) * len(arguments.attacks)))
        judge = partial(
            judge_folder, model, classes=classes,
            batch_size=arguments.batch_size, num_workers=arguments.num_workers,
            advance=lambda done: bar.advance(shown, done),
        )  # fmt: skip
        outcomes = {name: judge(folder=folder, transform=prepared.transform) for name, folder in folders.items()}
        corrupted = {name: judge(folder=arguments.data, transform=transform) for name, transform in made.items()}
        judge_attacked = partial(judge, folder=arguments.data, transform=prepared.transform)
        attacked = [
            AttackRow(attack, name, top1(judge_attacked(change=partial(source.attack, attack=attack))))
            for name, source in sources.items()
            for attack in arguments.attacks
        ]
    if is_main():
        result = describe(arguments, found.name, model.vision.variant, classes, prepared, corruptions, sum(images))
        if lacking := [name for name in classes.names if name not in next(iter(counts.values()))]:
            result["notes"].append(f"{len(lacking)} classes have no images: {', '.join(lacking[:5])}")
        result |= accuracies(outcomes, classes.names)
        if corruptions is not None:
            result |= corruption_errors(outcomes) | {"missing": corruptions.missing, "ignored": corruptions.ignored}
        if corrupted:
            result |= corruption_errors(corrupted, 100 - result["top1"])
        if attacked:
            result["attacks"] = [
                row._asdict() | {"attack": row.attack._asdict(), "words": row.words} for row in attacked
            ]
            result["notes"] += masking_signs(result["top1"], attacked)
        result["seconds"] = round(time.monotonic() - started, 2)
        write_json(arguments.output, result, indent=1)
        if "corruptions" in result:
            clean_error = 100 - result["top1"] if arguments.corrupt else None
            draw_corruptions(arguments.output.with_suffix(".png"), result["corruptions"], clean_error)
        report(result)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a classifier's checkpoint")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="one folder of images per class")
    parser.add_argument(
        "--subset",
        choices=("imagenet-a", "imagenet-r", "imagenet-sketch"),
        help="the data is this; of ImageNet's classes the model chooses among those that it has",
    )
    parser.add_argument("--corruptions", action="store_true", help="the data is ImageNet-C; gives its mCE")
    parser.add_argument(
        "--allow-missing", action="store_true", help="evaluate what there is of ImageNet-C, without an mCE"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="result.json to write")
    add_loading_options(parser, "images per process and forward pass")
    add_corruption_options(parser, several=True)
    add_attack_options(parser, several=True)
    parser.add_argument(
        "--transfer-from",
        type=Path,
        metavar="DIR",
        help="attack by the gradients of this checkpoint, too, a folder or hub name",
    )
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    arguments.attacks = attacks_of(parser, arguments)
    arguments.corrupt = corruptions_of(parser, arguments)
    if arguments.transfer_from and not arguments.attacks:
        parser.error("--transfer-from is about --attack, which is not given")
    for option, given in (("--attack", arguments.attacks), ("--corrupt", arguments.corrupt)):
        if arguments.corruptions and given:
            parser.error(f"--corruptions and {option} exclude each other")
    if (arguments.corruptions or arguments.corrupt) and arguments.output.suffix == ".png":
        parser.error(f"--output {arguments.output}: the curves are written there, the result needs another ending")
    if arguments.corruptions and arguments.subset:
        parser.error("--corruptions and --subset exclude each other: ImageNet-C is of ImageNet's validation images")
    if arguments.allow_missing and not arguments.corruptions:
        parser.error("--allow-missing is about --corruptions, which is not given")
    return arguments


def check_alike(counts: dict[str, dict[str, int]], data: Path) -> None:
    """Stop where a folder lacks images of a class that others have: all folders are the same images, corrupted."""
    most = {name: max(of_classes[name] for of_classes in counts.values()) for name in next(iter(counts.values()))}
    short = {name: sum(of_classes.values()) for name, of_classes in counts.items() if of_classes != most}
    if short:
        folder, images = next(iter(short.items()))
        raise InputError(
            f"{data}: expected the same {sum(most.values())} images in every folder, but {len(short)} of {len(counts)} "
            f"have fewer, e.g. {folder} {images}"
        )


def describe(
    arguments: argparse.Namespace,
    checkpoint: str,
    variant: "Variant",
    classes: "JudgedClasses",
    prepared: "Preparation",
    corruptions: "CorruptionFolders | None",
    images: int,
) -> dict:
    """The entries of the result that say what was done."""
    from vl_absvit.evaluation.classification_metrics import clamped
    from vl_absvit.tasks.vision_evaluation import SUBSETS, look_in_words

    subset, number = SUBSETS.get(arguments.subset), len(classes.names)
    notes = clamped(number)
    what = f"{arguments.data}, {images} images of {number} classes"
    if subset is not None:
        others = "" if subset.synsets is None else "; no other class of the checkpoint can be chosen"
        what += f" ({subset.name}{others})"
        if images != subset.images:
            notes.append(f"{subset.name} as published has {subset.images} images, this has {images}")
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
    size, resized_to, look = prepared.image_size, prepared.transform.resized_to, look_in_words(variant)
    assert resized_to is not None, "evaluation cuts the middle out of a resized picture"
    crop = f"the shorter side resized to {resized_to} px, the middle {size} x {size} px seen"
    if corruptions is not None:
        crop += " (ImageNet-C's images have been cut before)"
    return {
        "protocol": f"{variant.label} {checkpoint} on {what}; {crop}; {look}; in {arguments.precision}; "
        "ties count against the model",
        "notes": notes,
        "checkpoint": checkpoint,
        "data": str(arguments.data),
        "subset": arguments.subset,
        "model": variant.label,
        "look": look,
        "precision": arguments.precision,
        "resolution": size,
        "crop": round(size / resized_to, 4),
        "classes": number,
        "images": images,
    }


def accuracies(outcomes: dict, names: list[str]) -> dict:
    """Accuracy over all images, and the counts of every class."""
    import numpy as np

    from vl_absvit.evaluation.classification_metrics import KS, count_top_k

    ranks, labels = (np.concatenate([getattr(o, field) for o in outcomes.values()]) for field in ("ranks", "labels"))
    counts = count_top_k(ranks, labels, len(names))
    tops = {f"top{k}": counts.right[k].tolist() for k in KS}
    rows = zip(counts.images.tolist(), *tops.values(), strict=True)
    per_class = {name: dict(zip(["images", *tops], row, strict=True)) for name, row in zip(names, rows, strict=True)}
    return {f"top{k}": counts.accuracy(k) for k in KS} | {"per_class": per_class}


def top1(outcome: "Outcome") -> float:
    """Percentage of images whose class stands before all others."""
    return 100 * int((outcome.ranks == 0).sum()) / len(outcome.ranks)


def corruption_errors(outcomes: "dict[str, Outcome]", clean_error: float | None = None) -> dict:
    """Error per corruption and severity, and what follows from them.

    Args:
        outcomes: by "CORRUPTION/SEVERITY".
        clean_error: on the same images as they are, in percent, if it is known.
    """
    from vl_absvit.evaluation.classification_metrics import corruption_scores

    errors: dict[str, dict[int, float]] = {}
    for condition, outcome in outcomes.items():
        name, severity = condition.split("/")
        errors.setdefault(name, {})[int(severity)] = 100 * int((outcome.ranks > 0).sum()) / len(outcome.ranks)
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


def report(result: dict) -> None:
    """Print the result."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(result["protocol"], soft_wrap=True, markup=False, highlight=False)
    for note in result["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)
    if "missing" not in result:  # else the images are those of ImageNet-C alone
        table = Table("images", "top-1 (%)", "top-5 (%)")
        table.add_row(str(result["images"]), f"{result['top1']:.2f}", f"{result['top5']:.2f}")
        for row in result.get("attacks", []):
            table.add_row(row["words"], f"{row['top1']:.2f}", "")
        show(console, table)
    if "corruptions" in result:
        table = Table("error (%) by severity", *"12345", "mean", "CE (%)")
        for name, scores in result["corruptions"].items():
            cells = [*(scores["error"].get(severity) for severity in range(1, 6)), scores["mean_error"], scores["ce"]]
            table.add_row(name, *("" if cell is None else f"{cell:.1f}" for cell in cells))
        table.add_section()
        table.add_row(
            "mean", *[""] * 5, *(f"{result[key]:.1f}" for key in ("mean_error", "mce") if result[key] is not None)
        )
        show(console, table)


def show(console: "Console", table: "Table") -> None:
    """Print a table of numbers."""
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)


if __name__ == "__main__":
    run_main(main)
