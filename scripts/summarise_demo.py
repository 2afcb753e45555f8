"""Sum up a demo run: accuracy, how often the maps point at the asked object, and a few overlays.

python scripts/summarise_demo.py --checkpoint runs/demo/vqa/checkpoints/best --data runs/demo/data \\
    --objects runs/demo/world/vqav2/demo_objects.json --predictions runs/demo/predictions.json --output runs/demo

Writes OUTPUT/summary.json and OUTPUT/overlays/<question id>.png.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, add_images_option, add_precision_option, progress, run_main
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.loaders import evaluation_loader
from vl_absvit.data.records import ImageTable, read_annotations, read_questions, read_vocabulary
from vl_absvit.data.vqa import VQADataset
from vl_absvit.errors import InputError
from vl_absvit.evaluation.answer_prior import best_constant_answers, constant_answer_scores
from vl_absvit.evaluation.controllability import read_steering
from vl_absvit.evaluation.openness import openness
from vl_absvit.evaluation.pointing import PointingScore, pointing_accuracy
from vl_absvit.evaluation.submission import check_submission
from vl_absvit.evaluation.vqa_accuracy import vqa_scores
from vl_absvit.hub import find
from vl_absvit.looking.explanation import choose_maps, explain
from vl_absvit.looking.geometry import Box, cell_centres, seen_box
from vl_absvit.looking.pages import panel, remarks_on_answer
from vl_absvit.looking.report_page import TITLES
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.vqa import VQACheckpoint, load_checkpoint, make_dataset

PAIRS = 4
"""Images that are drawn, each with two questions about different places, so that one sees the map move."""
KINDS_FILE = "demo_kinds.json"
"""The kind of every question, beside the boxes; an earlier world has no such file."""
POINTING = ("bottom_up", "prior_mask", "top_down")
"""The maps that are drawn and scored, as far as the model has them."""
DEFINITIONS = {
    "vqa_accuracy": "official VQA accuracy, percent",
    "vqa_accuracy_per_kind": "the same of every kind of question that the world asks, with the number of its questions",
    "prior_only_accuracy": "the same of the best constant answer per question type, chosen on train",
    "prior_mask_pointing": "percent of questions that name objects where the centre of the prior mask's strongest "
    "patch lies on one of them; of several equally strong patches, each must",
    "bottom_up_pointing": "the same for the length of the first look's patch tokens after the third block from the end",
    "top_down_pointing": "the same for the second look",
    "prior_mask": "of questions that name objects (asked), and of those whose objects are not there (absent): percent "
    "of masks that are 0 everywhere (shut), mean percent of patches above 0 (open), median of the largest values",
    "steering": "compare_priors.py on pairs of objects, second look at the strength of training",
}


class Seen(NamedTuple):
    """Where the model looked for one question."""

    question_id: int
    image_id: int
    maps: dict[str, np.ndarray]  # (h, w) each
    box: Box  # part of the picture that the maps cover


def main() -> None:
    arguments = parse_arguments()
    data, split = arguments.data, arguments.split
    objects = read_objects(arguments.objects)
    annotations = read_annotations(data, [split])
    predictions = read_json(arguments.predictions, list)
    check_submission(predictions, [each["question_id"] for each in annotations], source=str(arguments.predictions))
    scores = vqa_scores(annotations, predictions)
    kinds = read_kinds(arguments.objects.with_name(KINDS_FILE))
    prior_only = prior_only_accuracy(data, annotations)

    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_checkpoint(found.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint.model.to(device)
    images = ImageTable(data, arguments.images)
    dataset = make_dataset(
        data, [split], checkpoint.tokenizer, len(checkpoint.vocabulary), checkpoint.preprocessing,
        images=arguments.images,
    )  # fmt: skip
    with progress() as bar, arithmetic(arguments.precision, device):
        looked = look(checkpoint, dataset, images, arguments.batch_size)
        seen = list(bar.track(looked, total=len(dataset), description="looking"))
    pointing = score_pointing(seen, objects)
    summary = {
        "checkpoint": found.name,
        "split": split,
        "precision": arguments.precision,
        "questions": len(annotations),
        "vqa_accuracy": scores.overall,
        "vqa_accuracy_per_answer_type": scores.per_answer_type,
        "vqa_accuracy_per_kind": kinds and accuracy_per_kind(scores.per_question, kinds),
        "prior_only_accuracy": prior_only,
        **{f"{name}_pointing": round(score.accuracy, 2) for name, score in pointing.items()},
        "prior_mask": mask_openness(seen, objects),
        "steering": arguments.steering and read_steering(arguments.steering),
        "questions_pointed_at": pointing["bottom_up"].questions,
        "questions_naming_no_object": pointing["bottom_up"].without_boxes,
        "agreement": arguments.agreement and read_agreement(arguments.agreement),
        "retrieval": [read_retrieval(file) for file in arguments.retrieval],
        "seconds": read_seconds(arguments.seconds),
        "definitions": DEFINITIONS,
    }
    draw(choose(seen, objects), images, read_questions(data, [split]), predictions, arguments.output / "overlays")
    write_json(arguments.output / "summary.json", summary, indent=1)
    show(summary, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="DIR", help="folder or hub name of a VQA checkpoint"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="OUT", help="the prepared demo world")
    add_images_option(parser)
    parser.add_argument("--split", default="val", help="split to report (default: val)")
    parser.add_argument("--objects", type=Path, required=True, metavar="FILE", help="the world's demo_objects.json")
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="written by evaluate_vqa.py")
    parser.add_argument("--agreement", type=Path, metavar="FILE", help="written by compare_vqa_hat.py")
    parser.add_argument("--steering", type=Path, metavar="FILE", help="written by compare_priors.py --pairs")
    parser.add_argument(
        "--retrieval", type=Path, nargs="*", default=[], metavar="FILE", help="written by evaluate_retrieval.py"
    )
    parser.add_argument("--seconds", type=Path, metavar="DIR", help="folder with a file of seconds per stage")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of summary.json and overlays/"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="questions per forward pass (default: 128)")
    add_precision_option(parser)
    arguments = parser.parse_args()
    if arguments.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    return arguments


def read_objects(path: Path) -> dict[int, list[Box]]:
    """Boxes of the objects that each question names; questions that name none may be absent."""
    content = read_json(path, dict)
    try:
        return {int(question): [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes] for question, boxes in content.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f'{path}: expected {{"question_id": [[x0, y0, x1, y1], ...]}}: {error}') from error


def read_kinds(path: Path) -> dict[int, str] | None:
    """The kind of every question; None where there is no file."""
    if not path.exists():
        return None
    content = read_json(path, dict)
    try:
        kinds = {int(question): kind for question, kind in content.items()}
    except ValueError as error:
        raise InputError(f'{path}: expected {{"question_id": "kind"}}: {error}') from error
    if wrong := [kind for kind in kinds.values() if not isinstance(kind, str)]:
        raise InputError(f'{path}: expected {{"question_id": "kind"}}, got the kind {wrong[0]!r:.60}')
    return kinds


def accuracy_per_kind(per_question: dict[int, float], kinds: dict[int, str]) -> dict[str, dict[str, float | int]]:
    """Accuracy in percent and number of questions of every kind, by name.

    Args:
        per_question: accuracy of every question, in percent.
        kinds: of at least these questions.
    """
    if missing := sorted(per_question.keys() - kinds.keys()):
        raise InputError(f"{KINDS_FILE}: has no kind for {len(missing)} questions, e.g. {missing[0]}")
    of_kind: dict[str, list[float]] = {}
    for question, accuracy in per_question.items():
        of_kind.setdefault(kinds[question], []).append(accuracy)
    return {
        kind: {"accuracy": round(sum(accuracies) / len(accuracies), 2), "questions": len(accuracies)}
        for kind, accuracies in sorted(of_kind.items())
    }


def read_agreement(path: Path) -> dict[str, float]:
    """Rank correlation with human maps of everything that was compared with them."""
    content = read_json(path, dict)
    try:
        return {name: row["rank_correlation"] for name, row in content["rows"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected a result of compare_vqa_hat.py: {error!r}") from error


def read_retrieval(path: Path) -> dict[str, float | str]:
    """Recalls and protocol of one retrieval evaluation."""
    content = read_json(path, dict)
    names = [f"{direction}_r{k}" for direction in ("ir", "tr") for k in (1, 5, 10)] + ["protocol"]
    if any(name not in content for name in names):
        raise InputError(f"{path}: expected {', '.join(names)}, got {', '.join(content) or 'nothing'}")
    return {name: content[name] for name in names}


def read_seconds(folder: Path | None) -> dict[str, int]:
    """Seconds of every stage, in the order in which the stages ended."""
    files = [] if folder is None else sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return {file.name: int(file.read_text()) for file in files}


def prior_only_accuracy(data: Path, annotations: Sequence[dict]) -> float:
    """Accuracy on ``annotations`` of the best constant answer per question type, in percent."""
    train = read_questions(data, ["train"]).data
    columns = [train.column(name).to_pylist() for name in ("question_type", "labels", "scores")]
    vocabulary = read_vocabulary(data)
    constants = best_constant_answers(zip(*columns, strict=True), vocabulary.answers)
    return constant_answer_scores(annotations, constants).overall


def look(checkpoint: VQACheckpoint, dataset: VQADataset, images: ImageTable, batch_size: int) -> Iterator[Seen]:
    """The maps of every question."""
    model, device = checkpoint.model, next(checkpoint.model.parameters()).device
    model.vision.fold()
    existing = choose_maps(model.vision, None).names
    choice = choose_maps(model.vision, [name for name in POINTING if name in existing])
    for batch in evaluation_loader(dataset, batch_size=batch_size, rank=0, world_size=1):
        explained = explain(model, send_to_device(batch, device), choice).maps
        maps = {name: grids.float().cpu().numpy() for name, grids in explained.items()}
        image_ids, rows = batch.image_ids.tolist(), batch.image_index.tolist()
        side = checkpoint.preprocessing.image_size
        boxes = [seen_box(width, height, side) for width, height in images.sizes(image_ids).tolist()]
        for k, (question, row) in enumerate(zip(batch.question_ids.tolist(), rows, strict=True)):
            yield Seen(question, image_ids[row], {name: grids[k] for name, grids in maps.items()}, boxes[row])


def score_pointing(seen: Sequence[Seen], objects: dict[int, list[Box]]) -> dict[str, PointingScore]:
    """Pointing accuracy of every map."""
    boxes = [objects.get(each.question_id, []) for each in seen]
    scores = {}
    for name in seen[0].maps:
        grids = [each.maps[name] for each in seen]
        centres = [cell_centres(each.box, *grid.shape) for each, grid in zip(seen, grids, strict=True)]
        scores[name] = pointing_accuracy(grids, centres, boxes)
    return scores


def mask_openness(seen: Sequence[Seen], objects: dict[int, list[Box]]) -> dict[str, dict | None] | None:
    """How far the prior masks open, of questions about objects that are there and of the others; None without masks."""
    if "prior_mask" not in seen[0].maps:
        return None
    masks: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for each in seen:
        masks[bool(objects.get(each.question_id))].append(each.maps["prior_mask"])
    found = {"asked": openness(masks[True]), "absent": openness(masks[False])}
    return {name: each and each._asdict() for name, each in found.items()}


def choose(seen: Sequence[Seen], objects: dict[int, list[Box]]) -> list[Seen]:
    """The questions to draw, whatever their answers: two about different objects on each of the first few images."""
    of_image: dict[int, list[Seen]] = {}
    for each in seen:
        of_image.setdefault(each.image_id, []).append(each)
    pairs = []
    for questions in of_image.values():
        named = [(each, set(objects.get(each.question_id, []))) for each in questions]
        apart = [
            (a, b) for (a, here), (b, there) in combinations(named, 2) if here and there and here.isdisjoint(there)
        ]
        pairs += apart[:1]
        if len(pairs) == PAIRS:
            break
    return [each for pair in pairs for each in pair]


def draw(
    chosen: Sequence[Seen], images: ImageTable, questions: Dataset, predictions: Sequence[dict], folder: Path
) -> None:
    """One panel per question; those of an earlier run are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row_of = {question: row for row, question in enumerate(questions["question_id"])}
    predicted = {each["question_id"]: each["answer"] for each in predictions}
    for each in chosen:
        record = questions[row_of[each.question_id]]
        picture = panel(
            images.open([each.image_id])[0],
            {TITLES[name]: grid for name, grid in each.maps.items()},
            each.box,
            text=record["question"],
            remarks=remarks_on_answer(predicted[each.question_id], record["multiple_choice_answer"]),
        )
        picture.save(folder / f"{each.question_id}.png")


def show(summary: dict, folder: Path) -> None:
    """The summary as a short table."""
    table = Table(f"{summary['questions']} questions of {summary['split']}", "%")
    table.columns[1].justify = "right"
    table.add_row("VQA accuracy", f"{summary['vqa_accuracy']:.2f}")
    for name, accuracy in summary["vqa_accuracy_per_answer_type"].items():
        table.add_row(f"  {name}", f"{accuracy:.2f}")
    for kind, of_kind in (summary["vqa_accuracy_per_kind"] or {}).items():
        table.add_row(f"  {kind} ({of_kind['questions']})", f"{of_kind['accuracy']:.2f}")
    table.add_row("best constant answers", f"{summary['prior_only_accuracy']:.2f}", end_section=True)
    for name in POINTING:
        if f"{name}_pointing" in summary:
            table.add_row(f"{TITLES[name]} on the asked object", f"{summary[f'{name}_pointing']:.2f}")
    for name, mask in (summary["prior_mask"] or {}).items():
        if mask:
            table.add_row(f"prior mask, {name}: shut / patches open", f"{mask['shut']:.1f} / {mask['open']:.1f}")
    if steering := summary["steering"]:
        halves = f"{steering['asked_half']:.1f} / {steering['both_halves']:.1f}"
        table.add_row(f"steering, alpha {steering['alpha']:g}: asked half / both", halves)
    console = Console()
    console.print(table)
    if summary["agreement"]:
        agreement = Table("rank correlation with human maps", "")
        for name, value in summary["agreement"].items():
            agreement.add_row(TITLES.get(name, name.replace("_", " ")), f"{value:.3f}")
        console.print(agreement)
    for result in summary["retrieval"]:
        recalls = Table(result["protocol"], "R@1", "R@5", "R@10")
        for direction, title in (("ir", "image retrieval"), ("tr", "text retrieval")):
            recalls.add_row(title, *(f"{result[f'{direction}_r{k}']:.2f}" for k in (1, 5, 10)))
        console.print(recalls)
    if summary["seconds"]:
        stages = ", ".join(f"{name} {seconds}" for name, seconds in summary["seconds"].items())
        console.print(f"seconds: {stages}; together {sum(summary['seconds'].values())}")
    console.print(f"{folder / 'summary.json'} and {folder / 'overlays'}")


if __name__ == "__main__":
    run_main(main)
