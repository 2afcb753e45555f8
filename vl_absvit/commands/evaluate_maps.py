"""Are a model's maps worth anything? Does it use what they show, and do they need what it learned?

vl-absvit evaluate-maps --checkpoint runs/vqa/checkpoints/best --maps EXPORT --output worth.json [--limit 100]

EXPORT is written by vl-absvit export-attention with the same checkpoint. Insertion and deletion curves follow the
order of each map's cells; the sanity check makes the maps again while weights are shuffled, part by part from the
output down. "definitions" in worth.json says what each row and number means. Curves stand beside it as a picture.
Whether maps lie on objects is told by vl-absvit compare-masks.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_export_options,
    add_precision_option,
    progress,
    run_main,
)
from vl_absvit.data.json_files import make_room, read_json, write_json
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from vl_absvit.data.class_folders import ImageBatch
    from vl_absvit.data.collate import VQABatch
    from vl_absvit.data.loaders import BatchedDataset
    from vl_absvit.looking.map_worth import Curves
    from vl_absvit.looking.viewer import Checkpoint

RANDOMISED = 32


def main() -> None:
    arguments = parse_arguments()
    make_room(arguments.output)
    import torch
    from accelerate.utils import send_to_device

    from vl_absvit.evaluation.curve_plot import draw_curves
    from vl_absvit.evaluation.map_curves import steps_of
    from vl_absvit.hub import find
    from vl_absvit.looking.export_reader import check_kinds, main_map, read_exported, read_index
    from vl_absvit.looking.map_worth import DEFINITIONS, curves_of, randomised_maps, summarise
    from vl_absvit.looking.viewer import load_checkpoint, make_viewer
    from vl_absvit.precision import arithmetic

    found = find(arguments.checkpoint, "--checkpoint")
    about = described(arguments.maps, found.path)
    checkpoint = load_checkpoint(found.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint.model.to(device)
    index = read_index(arguments.maps)
    records = [read_exported(arguments.maps, entry, arguments.images) for entry in index[: arguments.limit]]
    kinds = arguments.map or list(records[0].maps)
    for entry, record in zip(index, records, strict=False):
        check_kinds(record.maps, kinds, arguments.maps / entry["npz"], only=not arguments.map)
    viewers = {
        "alone": make_viewer(checkpoint, [], prior=about.get("prior")),
        "maps": make_viewer(checkpoint, kinds, about["block"], about["heads"], about.get("prior")),
    }
    checkpoint.model.vision.fold()
    samples = samples_of(checkpoint, records, arguments.checkpoint)

    def batch_of(row: int) -> "VQABatch | ImageBatch":
        return send_to_device(samples.collate(samples.__getitems__([row])), device)

    curves: list[dict[str, Curves]] = []
    cells: dict[str, list[int]] = {}
    randomised: dict[str, dict[str, list[float]]] = {}
    with progress() as bar, arithmetic(arguments.precision, device):
        task = bar.add_task("changing cells", total=len(records))
        for number, record in enumerate(records):
            maps = {kind: record.maps[kind] for kind in kinds}
            own = curves_of(
                viewers["alone"], batch_of(number), maps, number,
                step=arguments.step, batch_size=arguments.batch_size,
            )  # fmt: skip
            cells |= {name: steps_of(maps.get(name, maps[kinds[0]]).size, arguments.step) for name in own}
            curves.append(own)
            bar.advance(task)
        if arguments.randomised:
            few = [batch_of(row) for row in range(min(arguments.randomised, len(records)))]
            task = bar.add_task("shuffling weights", total=None)
            for part, kept in randomised_maps(viewers["maps"], few):
                randomised[part] = kept
                bar.advance(task)
    scores = summarise(curves, cells, randomised, main_map(kinds))
    scores["counts"] |= {
        "exported": len(index),
        "judged_with_shuffled_weights": min(arguments.randomised, len(records)),
    }
    scores |= {"checkpoint": found.name, "step": arguments.step, "precision": arguments.precision}
    write_json(arguments.output, scores | {"definitions": DEFINITIONS}, indent=1)
    draw_curves(
        arguments.output.with_suffix(".png"), panels_of(scores), [*["share of cells changed"] * 2, "parts shuffled"]
    )
    show(scores)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "the checkpoint that was exported")
    add_export_options(parser, "worth.json")
    parser.add_argument("--images", metavar="DIR", help="folder of the pictures, if they were moved")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N texts or pictures (default: all)")
    parser.add_argument("--step", type=int, default=1, metavar="CELLS", help="cells that change at once (default: 1)")
    parser.add_argument(
        "--randomised", type=int, default=RANDOMISED, metavar="N",
        help=f"texts or pictures for the check with shuffled weights, 0 for none (default: {RANDOMISED})",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=64, help="pictures per forward pass (default: 64)")
    add_precision_option(parser)
    arguments = parser.parse_args()
    for name in ("limit", "step", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.randomised < 0:
        parser.error("--randomised must be at least 0")
    if arguments.output.suffix == ".png":
        parser.error("--output is the scores' file, such as worth.json")
    return arguments


def described(export: Path, checkpoint: Path) -> dict[str, Any]:
    """What an export says of itself.

    Raises:
        InputError: it is by another checkpoint, or says nothing.
    """
    from vl_absvit.data.whole_folder import fingerprints

    about = read_json(export / "export.json", dict)
    files = about.get("checkpoint")
    known = isinstance(about.get("block"), int) and about.get("heads") in ("mean", "max")
    if not isinstance(files, dict) or not known:
        raise InputError(f"{export / 'export.json'}: expected the description of vl-absvit export-attention")
    other = [name for name, content in fingerprints(checkpoint, files).items() if content != files[name]]
    if other or not fingerprints(checkpoint, files):
        raise InputError(
            f"{export}: was exported by another checkpoint than {checkpoint}: {' and '.join(other)} differ"
        )
    return about


def samples_of(checkpoint: "Checkpoint", records: Sequence[Any], name: str) -> "BatchedDataset":
    """The exported texts or pictures as samples, in the order of the records.

    Raises:
        ConfigError: the export is about something else than the checkpoint reads.
    """
    from vl_absvit.looking.export_reader import ExportedCaption, ExportedPicture, ExportedQuestion
    from vl_absvit.looking.own_samples import OwnPictures, OwnTexts
    from vl_absvit.looking.own_texts import Request
    from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint
    from vl_absvit.tasks.vqa import VQACheckpoint

    kinds = {ExportedQuestion: "question", ExportedCaption: "caption", ExportedPicture: "picture"}
    kind = kinds[type(records[0])]
    texts = [record.picture if kind == "picture" else getattr(record, kind) for record in records]
    requests = [Request(record.id, record.image, text, record.id) for record, text in zip(records, texts, strict=True)]
    reads = "picture" if isinstance(checkpoint, ClassifierCheckpoint) else "caption"
    reads = "question" if isinstance(checkpoint, VQACheckpoint) else reads
    if reads != kind:
        raise ConfigError(f"the export is about {kind}s, checkpoint {name} reads {reads}s")
    if isinstance(checkpoint, ClassifierCheckpoint):
        return OwnPictures(requests, checkpoint.transform)
    preprocessing = checkpoint.preprocessing
    return OwnTexts(requests, checkpoint.tokenizer, preprocessing.max_tokens, preprocessing.transform())


def panels_of(scores: dict[str, Any]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Curves by panel and row."""
    rows = scores["rows"]
    panels = {
        curve: {name: (row["shares"], row[f"{curve}_curve"]) for name, row in rows.items()}
        for curve in ("deletion", "insertion")
    }
    places = list(range(1, len(scores["parts"]) + 1))
    kept = {
        name: ([0.0, *places], [1.0, *(_or_nan(part["mean"]) for part in row["randomised"].values())])
        for name, row in rows.items()
        if "randomised" in row
    }
    return panels | ({"rank correlation with the trained": kept} if kept else {})


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def show(scores: dict[str, Any]) -> None:
    """The rows as a table."""
    parts = scores["parts"]
    shown = [parts[0], parts[len(parts) // 2], parts[-1]] if len(parts) > 2 else parts
    title = f"{scores['counts']['judged']:,} judged"
    if shown:
        title += "; rank correlation with weights shuffled from the head down to ..."
    table = Table(Column("map", no_wrap=True), title=title, box=SIMPLE)
    for name in ["deletion", "insertion", *shown]:
        table.add_column(name, justify="right")
    for name, row in scores["rows"].items():
        cells = [f"{row[curve]['mean']:.3f}" for curve in ("deletion", "insertion")]
        for part in shown:
            mean = row.get("randomised", {}).get(part, {"mean": None})["mean"]
            cells.append("-" if mean is None else f"{mean:.2f}")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    run_main(main)
