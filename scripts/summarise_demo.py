"""Sum up a demo run: accuracy, how often the maps point at the asked object, and a few overlays.

python scripts/summarise_demo.py --checkpoint runs/demo/vqa/checkpoints/best --data runs/demo/data --split val \\
    --objects runs/demo/world/vqav2/demo_objects.json --predictions runs/demo/predictions.json --output runs/demo

Writes OUTPUT/summary.json and OUTPUT/overlays/<question id>.png.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vl_absvit.cli import progress, run_main
from vl_absvit.data.json_files import form_name, read_json, write_json
from vl_absvit.errors import InputError

OVERLAYS = 8
DEFINITIONS = {
    "vqa_accuracy": "official VQA accuracy of the most probable answer, percent",
    "prior_only_accuracy": "the same, of the best constant answer per question type, chosen on train",
    "prior_mask_pointing": "percent of questions where the centre of the prior mask's strongest patch lies on an asked object",
    "bottom_up_pointing": "the same, of the first look's longest patch token after the third block from the end",
    "top_down_pointing": "the same, of the second look's longest patch token after the third block from the end",
}


class Seen(NamedTuple):
    """Where the model looked for one question."""

    question_id: int
    image_id: int
    maps: dict[str, np.ndarray]  # name -> (h, w)
    box: tuple[float, float, float, float]  # part of the picture that the maps cover, in pixels


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.data.answers import AnswerVocabulary
    from vl_absvit.data.records import ImageTable, read_annotations, read_questions
    from vl_absvit.evaluation.answer_prior import best_constant_answers, constant_answer_scores
    from vl_absvit.evaluation.submission import check_submission
    from vl_absvit.evaluation.vqa_accuracy import vqa_scores
    from vl_absvit.tasks.vqa import load_checkpoint, make_dataset

    data, split, output = arguments.data, arguments.split, arguments.output
    objects = read_objects(arguments.objects)
    predictions = read_json(arguments.predictions, list)
    annotations = read_annotations(data, [split])
    check_submission(predictions, [each["question_id"] for each in annotations], where=str(arguments.predictions))
    scores = vqa_scores(annotations, predictions)
    training = read_questions(data, ["train"]).select_columns(["question_type", "labels", "scores"])
    vocabulary = AnswerVocabulary.load(data / "answers.json")
    constants = best_constant_answers((tuple(row.values()) for row in training), vocabulary.answers)

    checkpoint = load_checkpoint(arguments.checkpoint)
    dataset = make_dataset(data, [split], checkpoint.tokenizer, len(vocabulary), checkpoint.preprocessing)
    images = ImageTable(data)
    with progress() as bar:
        looked = look(checkpoint, dataset, images, arguments.batch_size)
        seen = list(bar.track(looked, total=len(dataset), description="looking"))
    pointing = score_pointing(seen, objects)

    summary = {
        "checkpoint": str(arguments.checkpoint),
        "split": split,
        "questions": len(annotations),
        "vqa_accuracy": scores.overall,
        "vqa_accuracy_per_answer_type": scores.per_answer_type,
        "prior_only_accuracy": constant_answer_scores(annotations, constants).overall,
        **{f"{name}_pointing": round(score.accuracy, 2) for name, score in pointing.items()},
        "questions_pointed_at": pointing["prior_mask"].questions,
        "questions_without_objects": pointing["prior_mask"].without_boxes,
        "seconds": read_seconds(arguments.seconds),
        "definitions": DEFINITIONS,
    }
    draw_overlays(choose(seen, objects), images, read_questions(data, [split]), predictions, output / "overlays")
    write_json(output / "summary.json", summary, indent=1)
    print_summary(summary, output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint of a VQA run")
    parser.add_argument("--data", type=Path, required=True, metavar="OUT", help="the prepared demo world")
    parser.add_argument("--split", default="val", help="split to report (default: val)")
    parser.add_argument("--objects", type=Path, required=True, metavar="FILE", help="the world's demo_objects.json")
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="written by evaluate_vqa.py")
    parser.add_argument("--seconds", type=Path, metavar="DIR", help="folder with one file of seconds per stage")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for summary.json and overlays")
    parser.add_argument("--batch-size", type=int, default=128, help="questions per forward pass (default: 128)")
    arguments = parser.parse_args()
    if arguments.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    return arguments
