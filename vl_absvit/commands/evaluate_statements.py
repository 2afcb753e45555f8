"""Judge every statement of a split of NLVR2 or SNLI-VE: predictions, and the official metrics.

vl-absvit evaluate-statements --checkpoint DIR --data OUT --split dev --output predictions.csv
predictions.csv has a line "dev-850-0-1,True" for every statement, NLVR2's official form; predictions.about.json, beside
it, has the metrics, beside those of constant answers and, with --blind, those without the images: then every picture is
of the mean colour. Training with blind: true gives what the texts give away to a model that never saw an image.
Also under torchrun or accelerate launch. Tokenizer and image preprocessing are the checkpoint's own.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import check_loading_options, evaluation_parser, progress, run_main

if TYPE_CHECKING:
    import numpy as np

    from vl_absvit.data.statements import StatementDataset
    from vl_absvit.training.evaluated import Evaluated


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, load, judge_split)


def load(folder: Path) -> Any:
    """A checkpoint that judges statements.

    Raises:
        InputError: it is another's, or not whole.
    """
    from vl_absvit.tasks.statements import STATEMENT_TASKS, NLVR2Task
    from vl_absvit.tasks.vl_checkpoint import head_of

    head = head_of(str(folder)) if (folder / "config.json").is_file() else None
    return STATEMENT_TASKS.get(head, NLVR2Task).load(folder)


def judge_split(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """Every statement of the splits."""
    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.records import STATEMENT_LABELS, split_names
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.statement_metrics import write_predictions
    from vl_absvit.tasks.statements import STATEMENT_TASKS, make_statements, scores_of
    from vl_absvit.training.evaluated import refuse_incomplete

    checkpoint, splits = found.checkpoint, split_names(arguments.split)
    kind = STATEMENT_TASKS[checkpoint.model.architecture["head"]["kind"]].data_kind
    ways = {"model": checkpoint.training.get("blind", False)} | ({"without images": True} if arguments.blind else {})
    results, labels_of = {}, {}
    for title, blind in ways.items():
        statements = make_statements(
            arguments.data, splits, kind, checkpoint.tokenizer, checkpoint.preprocessing,
            blind=blind, images=arguments.images,
        )  # fmt: skip
        refuse_incomplete(arguments, "statements", statements.without_image, len(statements))
        labels_of[title] = predict(arguments, found, statements, title)
        results[title] = scores_of(statements, kind, labels_of[title])
    if not is_main():
        return
    results |= constant_scores(statements, kind)
    write_predictions(arguments.output, statements.names, labels_of["model"], STATEMENT_LABELS[kind])
    about = describe(arguments, found, splits, kind, results)
    write_json(arguments.output.with_suffix(".about.json"), about, indent=1)
    report(arguments, about, results, len(statements))


def constant_scores(statements: "StatementDataset", kind: str) -> dict[str, dict[str, float]]:
    """What constant answers score."""
    import numpy as np

    from vl_absvit.data.records import STATEMENT_LABELS
    from vl_absvit.evaluation.statement_metrics import statement_scores

    return {
        f"always {word}": statement_scores(
            kind, statements.names, statements.labels, np.full(len(statements), place), statements.subsets
        )
        for place, word in enumerate(STATEMENT_LABELS[kind])
    }


def describe(
    arguments: argparse.Namespace,
    found: "Evaluated",
    splits: Sequence[str],
    kind: str,
    results: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """What was judged by what, and the scores of every way to judge."""
    from vl_absvit.data.records import SNLI_VE, read_manifest
    from vl_absvit.tasks.vl_checkpoint import datasets_trained_on

    manifest, training = read_manifest(arguments.data), found.checkpoint.training
    left_out = manifest.get("skipped_statements", {})
    return {
        "predictions": arguments.output.name,
        "checkpoint": found.name,
        "data": str(arguments.data),
        "dataset": manifest["dataset"],
        "splits": list(splits),
        "precision": arguments.precision,
        "batch_size": arguments.batch_size,
        "trained_on": datasets_trained_on(training),
        "trained_without_images": training.get("blind", False),
        "text": "the hypothesis alone, without the premise" if kind == SNLI_VE else "the sentence",
        "left_out_with_their_images": sum(sum(left_out.get(split, {}).values()) for split in splits),
        **results["model"],
        "others": {title: scores for title, scores in results.items() if title != "model"},
    }


def predict(
    arguments: argparse.Namespace, found: "Evaluated", statements: "StatementDataset", title: str
) -> "np.ndarray":
    """The label of every statement, (S,), in all processes together."""
    from vl_absvit.distributed import gather_objects, world_size
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.own_share import own_share
    from vl_absvit.tasks.statements import label_pairs, labels_in_order

    loader = own_share(statements, batch_size=arguments.batch_size, num_workers=arguments.num_workers)
    with progress() as bar, arithmetic(arguments.precision, found.device):
        pairs = label_pairs(found.checkpoint.model, loader)
        judged = bar.track(pairs, total=len(statements) // world_size(), description=f"judging ({title})")
        return labels_in_order(statements, gather_objects(list(judged)))


def report(
    arguments: argparse.Namespace, about: Mapping[str, Any], results: Mapping[str, Mapping[str, float]], judged: int
) -> None:
    """Print a row for every way to judge, a column for every metric, and what is to be said about them."""
    print(f"{judged:,} predictions in {arguments.output}, in {arguments.precision}")
    metrics = (name.removeprefix("accuracy/") for name in results["model"])
    table = Table(f"{about['dataset']} {arguments.split}", *metrics)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, scores in results.items():
        table.add_row(name, *(f"{score:.2f}" for score in scores.values()))
    Console().print(table)
    if about["trained_without_images"]:
        print("the model was trained without images, and judged without them")
    if left_out := about["left_out_with_their_images"]:
        print(f"{left_out:,} official statements are not among them: their images cannot be used, see manifest.json")


def parse_arguments() -> argparse.Namespace:
    parser = evaluation_parser(
        __doc__,
        checkpoint="an NLVR2 or SNLI-VE checkpoint",
        data="folder of prepare-nlvr2 or prepare-snli-ve",
        split="split to judge, such as dev or test1",
        batches="statements per process and forward pass",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="predictions, as lines id,label")
    parser.add_argument("--blind", action="store_true", help="also judge with every image of the mean colour")
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
