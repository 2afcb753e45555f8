"""Judge every statement of a split of NLVR2 or SNLI-VE: predictions, and the official metrics.

vl-absvit evaluate-statements --checkpoint DIR --data OUT --split dev --output predictions.csv
predictions.csv has a line "dev-850-0-1,True" for every statement, NLVR2's official form; predictions.about.json, beside
it, has the metrics, beside those of constant answers and, with --blind, those without the images: then every picture is
of the mean colour. Training with blind: true gives what the texts give away to a model that never saw an image.
Also under torchrun or accelerate launch. Tokenizer and image preprocessing are the checkpoint's own.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from vl_absvit.errors import InputError

if TYPE_CHECKING:
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
    from vl_absvit.tasks.statements import NLVR2Task, SNLIVETask
    from vl_absvit.tasks.vl_checkpoint import head_of

    is_snli = (folder / "config.json").is_file() and head_of(str(folder)) == SNLIVETask.head_kind
    return (SNLIVETask if is_snli else NLVR2Task).load(folder)


def judge_split(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """Every statement of the splits."""
    import numpy as np

    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.records import NLVR2, SNLI_VE, STATEMENT_LABELS, read_manifest, split_names
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.statement_metrics import statement_scores, write_predictions
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.statements import make_statements, scores_of
    from vl_absvit.tasks.vl_checkpoint import datasets_trained_on

    checkpoint, splits = found.checkpoint, split_names(arguments.split)
    kind = {"nlvr2": NLVR2, "snli": SNLI_VE}[checkpoint.model.architecture["head"]["kind"]]
    words, trained_blind = STATEMENT_LABELS[kind], checkpoint.training.get("blind", False)
    results: dict[str, dict[str, float]] = {}
    for title, blind in (("model", trained_blind), ("without images", True))[: 1 + arguments.blind]:
        statements = make_statements(
            arguments.data, splits, kind, checkpoint.tokenizer, checkpoint.preprocessing,
            blind=blind, images=arguments.images,
        )  # fmt: skip
        refuse_incomplete(arguments, statements)
        with arithmetic(arguments.precision, found.device):
            predicted = predict(arguments, found, statements, title)
        results[title] = scores_of(statements, kind, predicted)
        if title == "model":
            labels = np.array([predicted[statement_id] for statement_id in statements.statement_ids.tolist()])
    if not is_main():
        return
    for place, word in enumerate(words):
        constant = np.full(len(labels), place)
        results[f"always {word}"] = statement_scores(
            kind, statements.names, statements.labels, constant, statements.subsets
        )
    write_predictions(arguments.output, statements.names, labels, words)
    manifest = read_manifest(arguments.data)
    about = {
        "predictions": arguments.output.name,
        "checkpoint": found.name,
        "data": str(arguments.data),
        "dataset": manifest["dataset"],
        "splits": splits,
        "precision": arguments.precision,
        "batch_size": arguments.batch_size,
        "trained_on": datasets_trained_on(checkpoint.training),
        "trained_without_images": trained_blind,
        "text": "the hypothesis alone, without the premise" if kind == SNLI_VE else "the sentence",
        **results["model"],
        "others": {title: scores for title, scores in results.items() if title != "model"},
    }
    write_json(arguments.output.with_suffix(".about.json"), about, indent=1)
    print(f"{len(labels):,} predictions in {arguments.output}, in {arguments.precision}")
    print_scores(f"{about['dataset']} {arguments.split}", results)
    if trained_blind:
        print("the model was trained without images, and judged without them")
    skipped = manifest.get("skipped_statements", {})
    if left_out := sum(sum(skipped.get(split, {}).values()) for split in splits):
        print(f"{left_out:,} official statements are not among them: their images cannot be used, see manifest.json")


def refuse_incomplete(arguments: argparse.Namespace, statements: "StatementDataset") -> None:
    """Raise ``InputError`` where images were missing at preparation."""
    if statements.without_image:
        total = statements.without_image + len(statements)
        raise InputError(
            f"{arguments.data}: {statements.without_image:,} of {total:,} statements of {arguments.split} lack an "
            "image, which was missing when they were prepared: nothing is judged, for the official metrics are over "
            "all of the split; bring the images and prepare again, into another folder"
        )


def predict(
    arguments: argparse.Namespace, found: "Evaluated", statements: "StatementDataset", title: str
) -> dict[int, int]:
    """The label of every statement, by id, in all processes together."""
    from vl_absvit.data.loaders import evaluation_loader
    from vl_absvit.distributed import gather_objects, rank, world_size
    from vl_absvit.tasks.statements import label_pairs

    loader = evaluation_loader(
        statements,
        batch_size=arguments.batch_size,
        rank=rank(),
        world_size=world_size(),
        num_workers=arguments.num_workers,
    )
    with progress() as bar:
        pairs = label_pairs(found.checkpoint.model, loader)
        judged = bar.track(pairs, total=len(statements) // world_size(), description=f"judging ({title})")
        return dict(gather_objects(list(judged)))


def print_scores(title: str, results: Mapping[str, Mapping[str, float]]) -> None:
    """A row for every way to judge, a column for every metric."""
    table = Table(title, *(name.removeprefix("accuracy/") for name in results["model"]))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, scores in results.items():
        table.add_row(name, *(f"{score:.2f}" for score in scores.values()))
    Console().print(table)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "an NLVR2 or SNLI-VE checkpoint")
    parser.add_argument("--data", required=True, metavar="OUT", help="folder of prepare-nlvr2 or prepare-snli-ve")
    add_images_option(parser)
    parser.add_argument("--split", required=True, help="split to judge, such as dev or test1")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="predictions, as lines id,label")
    parser.add_argument("--blind", action="store_true", help="also judge with every image of the mean colour")
    add_loading_options(parser, "statements per process and forward pass")
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
