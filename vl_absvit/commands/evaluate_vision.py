"""Classify images: top-1 and top-5 on an image folder, on ImageNet-A, -R and -Sketch, ObjectNet, or ImageNet-C's mCE.

vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --output val.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet-r --subset imagenet-r --output r.json
vl-absvit evaluate-vision --checkpoint DIR --data objectnet-1.0/images --mapping objectnet-1.0/mappings --output o.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet-c --corruptions --output c.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --corrupt all --output val_c.json
vl-absvit evaluate-vision --checkpoint DIR --data imagenet/val --attack pgd --eps 1 2 4 8 --steps 5 20 --output pgd.json
DIR is a checkpoint of a pretraining, or one that vl-absvit convert-released made. The data has one folder per class
and is named as the checkpoint's classes are: for a converted one as ImageNet's, n01440764 and so on. Folders with other
names have a --mapping: {"chair": ["n02791124", "folding chair"], ...}; a picture is right where the class that
the model chooses is one of its folder's. ImageNet-C is CORRUPTION/SEVERITY/CLASS/IMAGE; --corrupt makes its corruptions
of any pictures. The result says in words what was done; beside it, a result with corruptions has curves as a picture.
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
from vl_absvit.data.corruptions import Corruption, add_corruption_options, corruptions_of
from vl_absvit.evaluation.attack_plan import add_attack_options, attacks_of
from vl_absvit.evaluation.gradient_masking import masking_signs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vl_absvit.tasks.vision_evaluation import Outcome
    from vl_absvit.tasks.vision_result import Job, Question
    from vl_absvit.training.evaluated import Evaluated


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.tasks.classification import ClassificationTask
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, ClassificationTask.load, classify)


def classify(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """All images of the data, as they are and in every way that is asked for."""
    from vl_absvit.data.json_files import write_json
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.corruption_plot import draw_corruptions
    from vl_absvit.tasks.vision_result import describe, scores_of

    started, question = time.monotonic(), ask(arguments, found)
    jobs = list_jobs(arguments, found, question)
    counts, outcomes = do_jobs(arguments, found, question, jobs)
    if not is_main():
        return
    result = describe(arguments, found.name, found.checkpoint.model.vision, question, counts)
    result |= scores_of(question, jobs, outcomes)
    if attacked := result.get("attacks"):
        result["notes"] += masking_signs(result["top1"], attacked)
        result["attacks"] = [row._asdict() | {"attack": row.attack._asdict(), "words": row.words} for row in attacked]
    result["seconds"] = round(time.monotonic() - started, 2)
    write_json(arguments.output, result, indent=1)
    if "corruptions" in result:
        clean_error = 100 - result["top1"] if arguments.corrupt else None
        draw_corruptions(arguments.output.with_suffix(".png"), result["corruptions"], clean_error)
    report(result)


def ask(arguments: argparse.Namespace, found: "Evaluated") -> "Question":
    """Which classes of which folders are judged, on which pictures."""
    from vl_absvit.tasks.class_mapping import mapped_classes, read_mapping
    from vl_absvit.tasks.vision_evaluation import find_corruptions, judged_classes, preparation
    from vl_absvit.tasks.vision_result import Question

    checkpoint, mapping, border = found.checkpoint, None, arguments.border
    if arguments.mapping is None:
        classes = judged_classes(checkpoint.classes, arguments.subset, found.folder)
    else:
        mapping = read_mapping(arguments.mapping)
        classes = mapped_classes(mapping, checkpoint.classes, found.folder)
        border = mapping.border if border is None else border
    prepared = preparation(found.folder, checkpoint, already_cut=arguments.corruptions, border=border or 0)
    corruptions = find_corruptions(arguments.data, arguments.allow_missing) if arguments.corruptions else None
    return Question(classes, prepared, border or 0, mapping, corruptions)


def list_jobs(arguments: argparse.Namespace, found: "Evaluated", question: "Question") -> "list[Job]":
    """Every reading of the images: as they are, corrupted, and attacked."""
    from vl_absvit.hub import find
    from vl_absvit.tasks.classifier_attack import Source, other_source
    from vl_absvit.tasks.vision_evaluation import preparation
    from vl_absvit.tasks.vision_result import Job

    classes, prepared, corruptions = question.classes, question.prepared, question.corruptions
    clean = Job(arguments.data, prepared.transform)
    if corruptions is not None:
        return [
            clean._replace(folder=folder, corruption=Corruption(name, severity))
            for name, by_severity in corruptions.present.items()
            for severity, folder in by_severity.items()
        ]
    jobs = [clean]
    for one in arguments.corrupt:
        made = preparation(found.folder, found.checkpoint, already_cut=False, corruption=one, border=question.border)
        jobs.append(clean._replace(transform=made.transform, corruption=one))
    sources: dict[str | None, Source] = {}  # by name, None for the judged checkpoint itself
    if arguments.attacks:
        sources[None] = Source(found.checkpoint.model, classes.columns, prepared)
    if arguments.transfer_from is not None:
        other = find(arguments.transfer_from, "--transfer-from")
        sources[other.name] = other_source(other.path, classes, arguments.subset, prepared, found.device)
    return jobs + [
        clean._replace(change=partial(source.attack, attack=attack), attack=attack, source=name)
        for name, source in sources.items()
        for attack in arguments.attacks
    ]


def do_jobs(
    arguments: argparse.Namespace, found: "Evaluated", question: "Question", jobs: "list[Job]"
) -> "tuple[dict[Path, dict[str, int]], list[Outcome]]":
    """Images of every class in each folder, and the outcome of each job."""
    from vl_absvit.distributed import world_size
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vision_evaluation import SUBSETS, count_images, judge_folder
    from vl_absvit.tasks.vision_result import check_alike

    classes, subset = question.classes, SUBSETS.get(arguments.subset)
    may_lack = question.mapping is not None or (subset is not None and subset.of_each is not None)
    folders = list(dict.fromkeys(job.folder for job in jobs))
    with progress() as bar, arithmetic(arguments.precision, found.device):
        counts = {
            folder: count_images(folder, classes, may_lack, may_have_others=question.mapping is not None)
            for folder in bar.track(folders, description="counting images")
        }
        check_alike(counts, arguments.data)
        images = {folder: sum(of_classes.values()) for folder, of_classes in counts.items()}
        total = sum(-(-images[job.folder] // world_size()) for job in jobs)
        shown = bar.add_task("classifying", total=total)
        outcomes = [
            judge_folder(
                found.checkpoint.model, job.folder, job.transform, classes,
                batch_size=arguments.batch_size, num_workers=arguments.num_workers,
                advance=lambda done: bar.advance(shown, done), change=job.change,
            )
            for job in jobs
        ]  # fmt: skip
    return counts, outcomes


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a classifier's checkpoint")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="one folder of images per class")
    parser.add_argument(
        "--subset",
        choices=("imagenet-a", "imagenet-r", "imagenet-sketch"),
        help="the data is this; of ImageNet's classes the model chooses among those that it has",
    )
    parser.add_argument(
        "--mapping",
        type=Path,
        metavar="PATH",
        help="which classes of the checkpoint count for each folder: a JSON file, or ObjectNet's folder mappings",
    )
    parser.add_argument(
        "--border",
        type=int,
        metavar="N",
        help="pixels to cut off at each side of a picture first (default: 0, with ObjectNet's mappings 2)",
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
    for option, given in (("--subset", arguments.subset), ("--corruptions", arguments.corruptions)):
        if arguments.mapping and given:
            parser.error(f"--mapping and {option} exclude each other")
    if arguments.mapping and arguments.attacks:
        parser.error("--mapping and --attack exclude each other: attacks follow the loss of one class")
    if arguments.border is not None and arguments.border < 0:
        parser.error(f"--border must be at least 0, got {arguments.border}")
    if arguments.border and arguments.corruptions:
        parser.error("--border and --corruptions exclude each other: ImageNet-C's images have been cut before")
    if arguments.allow_missing and not arguments.corruptions:
        parser.error("--allow-missing is about --corruptions, which is not given")
    return arguments


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
