"""Answer every question of a split: EvalAI predictions, and accuracy where the split has answers.

vl-absvit evaluate-vqa --checkpoint DIR --data OUT --split val,minival --output predictions.json
predictions.about.json, beside them, says what gave them, and in which precision.
The official val is val and minival together, which was drawn from it.
--attack pgd answers about pictures that were changed to have each question answered wrongly, --corrupt fog about
pictures corrupted as ImageNet-C's are.
Also under torchrun or accelerate launch. Tokenizer, vocabulary and image preprocessing are the checkpoint's own.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_images_option,
    add_loading_options,
    check_loading_options,
    progress,
    run_main,
)
from vl_absvit.data.corruptions import add_corruption_options, corruptions_of
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import add_attack_options, attacks_of

if TYPE_CHECKING:
    from vl_absvit.evaluation.accuracy_rules import AccuracyRule
    from vl_absvit.evaluation.attack_plan import Attack
    from vl_absvit.evaluation.vqa_accuracy import VQAScores
    from vl_absvit.training.evaluated import Evaluated


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.tasks.vqa import VQATask
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, VQATask.load, answer)


def answer(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """Every question of the splits."""
    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.loaders import evaluation_loader
    from vl_absvit.data.records import read_annotations, read_manifest, read_vocabulary, split_names
    from vl_absvit.distributed import gather_objects, is_main, rank, world_size
    from vl_absvit.evaluation.accuracy_rules import accuracy_rule
    from vl_absvit.evaluation.submission import check_submission, remarks, write_submission
    from vl_absvit.evaluation.vqa_accuracy import vqa_scores
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vqa import make_dataset, predict_answers
    from vl_absvit.tasks.vqa_attack import attack_batch

    splits = split_names(arguments.split)
    checkpoint = found.checkpoint
    manifest = read_manifest(arguments.data)
    is_labelled = manifest.get("vocabulary") is not None
    vocabulary = read_vocabulary(arguments.data) if is_labelled else checkpoint.vocabulary
    if is_main() and vocabulary.sha256 != checkpoint.vocabulary.sha256:
        print(f"{arguments.data} was prepared with another answer vocabulary; the answers come from the checkpoint's")
    corruption = next(iter(arguments.corrupt), None)
    dataset = make_dataset(
        arguments.data, splits, checkpoint.tokenizer, len(vocabulary), checkpoint.preprocessing,
        images=arguments.images, corruption=corruption,
    )  # fmt: skip
    if dataset.without_image:
        raise InputError(
            f"{arguments.data}: {dataset.without_image:,} of {dataset.without_image + len(dataset):,} questions of "
            f"{arguments.split} have no image, which was missing when they were prepared: nothing is answered, for "
            "predictions must have every question of the split; bring the images and prepare again, into another folder"
        )
    attack, attacked = next(iter(arguments.attacks), None), None
    if attack is not None:
        check_answers_known(arguments, attack, dataset.has_answers, vocabulary.sha256 == checkpoint.vocabulary.sha256)
        attacked = partial(attack_batch, checkpoint.model, attack=attack, preprocessing=checkpoint.preprocessing)
    loader = evaluation_loader(
        dataset,
        batch_size=arguments.batch_size,
        rank=rank(),
        world_size=world_size(),
        num_workers=arguments.num_workers,
    )
    mine = len(dataset) // world_size()
    with progress() as bar, arithmetic(arguments.precision, found.device):
        answers = bar.track(
            predict_answers(checkpoint.model, loader, checkpoint.vocabulary, attacked),
            total=mine,
            description="answering",
        )
        predictions = gather_objects(list(answers))
    if is_main():
        check_submission(predictions, dataset.question_ids.tolist())
        write_submission(arguments.output, predictions)
        print(f"{len(predictions)} answers in {arguments.output}, in {arguments.precision}")
        if found.name != arguments.checkpoint:
            print(f"by {found.name}")
        if attack is not None:
            print(f"about pictures changed to mislead it: {attack.words}")
        if corruption is not None:
            print(f"about corrupted pictures: {corruption.words}")
        about = {
            "predictions": Path(arguments.output).name,
            "checkpoint": found.name,
            "data": str(arguments.data),
            "dataset": manifest.get("dataset", manifest.get("kind")),
            "splits": splits,
            "precision": arguments.precision,
            "batch_size": arguments.batch_size,
            "attack": attack and attack.words,
            "corruption": corruption and corruption.words,
        }
        if dataset.has_answers:
            rule = accuracy_rule(manifest)
            scores = vqa_scores(read_annotations(arguments.data, splits), predictions, rule.of_question)
            about |= {rule.metric: scores.overall, f"{rule.metric}_per_answer_type": scores.per_answer_type}
            about |= {"accuracy_rule": rule.words}
            print_scores(scores, rule)
        else:
            print(f"{arguments.split} has no answers to score against")
        write_json(Path(arguments.output).with_suffix(".about.json"), about, indent=1)
        for words in remarks(manifest, splits, len(predictions)):
            print(words)


def check_answers_known(arguments: argparse.Namespace, attack: "Attack", known: bool, same_labels: bool) -> None:
    """Raise ``InputError`` unless an attack can know the answers to move away from, as the model's labels."""
    if attack.targeted or (known and same_labels):
        return
    lacks = "no answers" if not known else "another answer vocabulary than the checkpoint"
    raise InputError(
        f"{arguments.data}: --attack moves away from the right answers, but {arguments.split} has {lacks}; --targeted "
        "needs none"
    )


def print_scores(scores: "VQAScores", rule: "AccuracyRule") -> None:
    """Accuracy overall and per answer and question type."""
    table = Table("questions", f"{rule.metric.replace('_', ' ')} (%)")
    table.columns[1].justify = "right"
    table.add_row("all", f"{scores.overall:.2f}", end_section=True)
    for types in (scores.per_answer_type, scores.per_question_type):
        for name, accuracy in types.items():
            table.add_row(name, f"{accuracy:.2f}")
        table.add_section()
    Console().print(table)
    print(f"{rule.metric} is {rule.words}")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA checkpoint")
    parser.add_argument("--data", required=True, metavar="OUT", help="folder of vl-absvit prepare-vqav2 or prepare-vqa")
    add_images_option(parser)
    parser.add_argument("--split", required=True, help="split to answer, such as test, or several: val,minival")
    parser.add_argument("--output", required=True, metavar="FILE", help="predictions, a JSON file in EvalAI's form")
    add_loading_options(parser, "questions per process and forward pass")
    add_attack_options(parser, several=False)
    add_corruption_options(parser, several=False)
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    arguments.attacks = attacks_of(parser, arguments)
    arguments.corrupt = corruptions_of(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
