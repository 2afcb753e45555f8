"""Answer every question of a split: EvalAI predictions, and accuracy where the split has answers.

vl-absvit evaluate-vqa --checkpoint DIR --data OUT --split val,minival --output predictions.json
predictions.about.json, beside them, says what gave them, and in which precision.
The official val is val and minival together, which was drawn from it.
--attack pgd answers about pictures that were changed to have each question answered wrongly, --corrupt fog about
pictures corrupted as ImageNet-C's are.
Also under torchrun or accelerate launch. Tokenizer, vocabulary and image preprocessing are the checkpoint's own.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import check_loading_options, evaluation_parser, progress, run_main
from vl_absvit.data.corruptions import add_corruption_options, corruptions_of
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import add_attack_options, attacks_of

if TYPE_CHECKING:
    from vl_absvit.data.answers import AnswerVocabulary
    from vl_absvit.data.vqa import VQADataset
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
    from vl_absvit.data.records import read_manifest, split_names
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.submission import check_submission, remarks, write_submission
    from vl_absvit.tasks.vqa import make_dataset
    from vl_absvit.training.evaluated import refuse_incomplete

    checkpoint, splits, corruption = found.checkpoint, split_names(arguments.split), next(iter(arguments.corrupt), None)
    vocabulary = vocabulary_of(arguments, found)
    dataset = make_dataset(
        arguments.data, splits, checkpoint.tokenizer, len(vocabulary), checkpoint.preprocessing,
        images=arguments.images, corruption=corruption,
    )  # fmt: skip
    refuse_incomplete(arguments, "questions", dataset.without_image, len(dataset))
    if attack := next(iter(arguments.attacks), None):
        check_answers_known(arguments, attack, dataset.has_answers, vocabulary.sha256 == checkpoint.vocabulary.sha256)
    predictions = predict(arguments, found, dataset)
    if not is_main():
        return
    check_submission(predictions, dataset.question_ids.tolist())
    write_submission(arguments.output, predictions)
    about = describe(arguments, found, splits)
    report(arguments, found, about, len(predictions))
    if dataset.has_answers:
        about |= score(arguments, splits, predictions)
    else:
        print(f"{arguments.split} has no answers to score against")
    write_json(arguments.output.with_suffix(".about.json"), about, indent=1)
    for words in remarks(read_manifest(arguments.data), splits, len(predictions)):
        print(words)


def vocabulary_of(arguments: argparse.Namespace, found: "Evaluated") -> "AnswerVocabulary":
    """The answers that the data's labels stand for, and a word where they are not the checkpoint's."""
    from vl_absvit.data.records import read_manifest, read_vocabulary
    from vl_absvit.distributed import is_main

    is_labelled = read_manifest(arguments.data).get("vocabulary") is not None
    vocabulary = read_vocabulary(arguments.data) if is_labelled else found.checkpoint.vocabulary
    if is_main() and vocabulary.sha256 != found.checkpoint.vocabulary.sha256:
        print(f"{arguments.data} was prepared with another answer vocabulary; the answers come from the checkpoint's")
    return vocabulary


def predict(arguments: argparse.Namespace, found: "Evaluated", dataset: "VQADataset") -> list[dict[str, Any]]:
    """The answers to all questions, in all processes together, as EvalAI records."""
    from vl_absvit.distributed import gather_objects, world_size
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.own_share import own_share
    from vl_absvit.tasks.vqa import predict_answers
    from vl_absvit.tasks.vqa_attack import attack_batch

    checkpoint, attack = found.checkpoint, next(iter(arguments.attacks), None)
    attacked = attack and partial(attack_batch, checkpoint.model, attack=attack, preprocessing=checkpoint.preprocessing)
    loader = own_share(dataset, batch_size=arguments.batch_size, num_workers=arguments.num_workers)
    with progress() as bar, arithmetic(arguments.precision, found.device):
        answers = predict_answers(checkpoint.model, loader, checkpoint.vocabulary, attacked)
        mine = bar.track(answers, total=len(dataset) // world_size(), description="answering")
        return gather_objects(list(mine))


def describe(arguments: argparse.Namespace, found: "Evaluated", splits: Sequence[str]) -> dict[str, Any]:
    """What was answered by what."""
    from vl_absvit.data.records import read_manifest

    manifest = read_manifest(arguments.data)
    attack, corruption = (next(iter(each), None) for each in (arguments.attacks, arguments.corrupt))
    return {
        "predictions": arguments.output.name,
        "checkpoint": found.name,
        "data": str(arguments.data),
        "dataset": manifest.get("dataset", manifest.get("kind")),
        "splits": list(splits),
        "precision": arguments.precision,
        "batch_size": arguments.batch_size,
        "attack": attack and attack.words,
        "corruption": corruption and corruption.words,
    }


def report(arguments: argparse.Namespace, found: "Evaluated", about: Mapping[str, Any], answers: int) -> None:
    """Print what was answered by what."""
    print(f"{answers} answers in {arguments.output}, in {arguments.precision}")
    if found.name != arguments.checkpoint:
        print(f"by {found.name}")
    if about["attack"]:
        print(f"about pictures changed to mislead it: {about['attack']}")
    if about["corruption"]:
        print(f"about corrupted pictures: {about['corruption']}")


def score(
    arguments: argparse.Namespace, splits: Sequence[str], predictions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Accuracy by the rule that the data's answers allow, which is printed in more detail."""
    from vl_absvit.data.records import read_annotations, read_manifest
    from vl_absvit.evaluation.accuracy_rules import accuracy_rule
    from vl_absvit.evaluation.vqa_accuracy import vqa_scores

    rule = accuracy_rule(read_manifest(arguments.data))
    scores = vqa_scores(read_annotations(arguments.data, splits), predictions, rule.of_question)
    print_scores(scores, rule)
    return {
        rule.metric: scores.overall,
        f"{rule.metric}_per_answer_type": scores.per_answer_type,
        "accuracy_rule": rule.words,
    }


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
    parser = evaluation_parser(
        __doc__,
        checkpoint="a VQA checkpoint",
        data="folder of vl-absvit prepare-vqav2 or prepare-vqa",
        split="split to answer, such as test, or several: val,minival",
        batches="questions per process and forward pass",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="predictions, a JSON file in EvalAI's form"
    )
    add_attack_options(parser, several=False)
    add_corruption_options(parser, several=False)
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    arguments.attacks = attacks_of(parser, arguments)
    arguments.corrupt = corruptions_of(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
