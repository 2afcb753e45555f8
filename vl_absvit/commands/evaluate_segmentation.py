"""Classify the pixels of a prepared split: mIoU and what each class has of it; predictions as files.

vl-absvit evaluate-segmentation --checkpoint DIR --data data/voc --split val --output val.json
vl-absvit evaluate-segmentation --checkpoint DIR --data data/ade20k --split val --scales 0.5,0.75,1,1.25,1.5,1.75 \\
    --mirrored --output val_ms.json
vl-absvit evaluate-segmentation --checkpoint DIR --data data/cityscapes --split test --predictions PNGS --output t.json
DIR is a checkpoint of a finetuning on labelled pixels; pictures are shown as it says, or in windows of --window. Files
of predictions have the values of the data set's own labels, as its server wants them. Labels need not be there.
Also under torchrun or accelerate launch. Interrupted, it goes on when the same command is given again.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_images_option,
    add_precision_option,
    add_workers_option,
    progress,
    run_main,
)
from vl_absvit.errors import InputError

if TYPE_CHECKING:
    from vl_absvit.evaluation.chunk_store import FileChunkStore
    from vl_absvit.evaluation.segmentation_metrics import PixelScores
    from vl_absvit.models.looks import VisualEncoder
    from vl_absvit.training.evaluated import Evaluated

PREDICTIONS = "predictions"
"""Folder of pictures of classes, until all of them are there."""


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.tasks.segmentation import SegmentationTask
    from vl_absvit.training.evaluated import evaluate_checkpoint

    evaluate_checkpoint(arguments, SegmentationTask.load, classify)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a segmenter's checkpoint")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="prepared labelled pixels")
    parser.add_argument("--split", default="val", help="split of the data (default: val)")
    add_images_option(parser)
    sides: dict[str, Any] = {"type": int, "nargs": 2, "metavar": ("HEIGHT", "WIDTH")}
    parser.add_argument("--window", **sides, help="move windows of so many pixels over each picture")
    parser.add_argument("--stride", **sides, help="steps of the window (default: two thirds of it)")
    parser.add_argument(
        "--whole", action="store_true", help="show pictures whole where the checkpoint was selected with windows"
    )
    parser.add_argument("--scales", default="1", metavar="R,R", help="show pictures at these scales, too (default: 1)")
    parser.add_argument("--mirrored", action="store_true", help="show pictures mirrored, too")
    parser.add_argument(
        "--predictions", type=Path, metavar="DIR", help="new folder for a PNG file of every picture's classes"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="result.json to write")
    add_workers_option(parser)
    add_precision_option(parser)
    arguments = parser.parse_args()
    if arguments.num_workers < 0:
        parser.error("--num-workers must be at least 0")
    if arguments.whole and arguments.window:
        parser.error("--whole and --window exclude each other")
    if arguments.stride and not arguments.window:
        parser.error("--stride is about --window, which is not given")
    return arguments


def classify(arguments: argparse.Namespace, found: "Evaluated") -> None:
    """All pictures of the split."""
    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.labelled_pixels import LabelledPictures, PictureDataset
    from vl_absvit.data.records import read_manifest
    from vl_absvit.distributed import is_main
    from vl_absvit.evaluation.chunk_store import FileChunkStore
    from vl_absvit.evaluation.pixel_submission import write_prediction
    from vl_absvit.evaluation.segmentation_metrics import pixel_scores
    from vl_absvit.main_process import in_main_process
    from vl_absvit.precision import arithmetic
    from vl_absvit.prepare.segmentation import SEGMENTATION_SETS
    from vl_absvit.tasks.segmentation_evaluation import judge, ratios_of

    checkpoint, started = found.checkpoint, time.monotonic()
    ratios = ratios_of(arguments.scales)
    pictures = LabelledPictures(arguments.data, [arguments.split], arguments.images)
    check_classes(checkpoint.classes, pictures.classes, found.name, arguments.data)
    showing = showing_asked_for(arguments, checkpoint)._replace(ratios=ratios, mirrored=arguments.mirrored)
    dataset = PictureDataset(pictures, checkpoint.transform, ratios)
    manifest = read_manifest(arguments.data)
    name = manifest.get("dataset", "folder")
    submitted = SEGMENTATION_SETS[name].submitted if name in SEGMENTATION_SETS else None
    store = FileChunkStore(arguments.predictions or arguments.output)
    goes_on = in_main_process(lambda: begin(arguments, found, showing.in_words(), store))

    def take(picture: Any, prediction: Any) -> None:
        if arguments.predictions:
            file = store.folder / PREDICTIONS / f"{pictures.names[picture.place]}.png"
            write_prediction(file, prediction, pictures.colours, submitted)

    with progress() as bar, arithmetic(arguments.precision, found.device):
        counts = judge(checkpoint.model, dataset, showing, arguments.num_workers, bar, take, store)
    if not is_main():
        return
    scores = pixel_scores(counts)
    result = describe(arguments, found.name, checkpoint.model.vision, showing.in_words(), name, len(dataset))
    of_split = manifest["splits"][arguments.split]
    if missing := of_split.get("without_image"):
        result["notes"].append(f"{missing} more pictures of {arguments.split} were missing when it was prepared")
    if not of_split.get("has_labels"):
        result["notes"].append(f"the split {arguments.split} has no labels: nothing is scored")
    elif scores.miou is None:
        result["notes"].append(f"the split {arguments.split} has no pixel with a class: no score is defined")
    if arguments.predictions:
        form = "class numbers with a palette" if submitted is None else f"the values of {name}'s labels"
        result["notes"].append(f"{arguments.predictions}: {form}")
    result |= scores_of_classes(scores, pictures.classes)
    result |= {"seconds": round(time.monotonic() - started, 2), "went_on_after_interruption": goes_on}
    write_json(arguments.output, result, indent=1)
    if arguments.predictions:
        (store.folder / PREDICTIONS).replace(arguments.predictions.resolve())
    store.remove()
    report(result)


def begin(arguments: argparse.Namespace, found: "Evaluated", shown: str, store: "FileChunkStore") -> bool:
    """Make the folder of what is counted, or go on with that of an interrupted evaluation. Returns whether it does.

    Raises:
        InputError: there is something where predictions would be written, or in the folder's place.
    """
    from vl_absvit.data.files import check_new_or_empty
    from vl_absvit.data.identity import content_of
    from vl_absvit.data.whole_folder import fingerprints
    from vl_absvit.precision import DESCRIPTIONS

    if arguments.predictions:
        check_new_or_empty(arguments.predictions)
    request = {
        "checkpoint": fingerprints(found.folder, ("config.json", "model.safetensors")),
        "data": content_of(arguments.data, [arguments.split]),
        "shown": shown,
        "precision": DESCRIPTIONS[arguments.precision],
        "predictions": arguments.predictions is not None,
    }
    goes_on = store.start(request)
    if goes_on:
        print(f"going on with the interrupted evaluation in {store.folder}")
    return goes_on


def check_classes(of_model: list[str], of_data: list[str], checkpoint: str, data: Path) -> None:
    """Refuse data with other classes than the checkpoint's, or in another order.

    Raises:
        InputError: names the first that differs.
    """
    if of_model == of_data:
        return
    number, (ours, theirs) = next(
        ((n, pair) for n, pair in enumerate(zip(of_model, of_data, strict=False)) if pair[0] != pair[1]),
        (min(len(of_model), len(of_data)), ("", "")),
    )
    words = f", the first that differs is {number}: {ours!r:.40} and {theirs!r:.40}" if ours else ""
    raise InputError(
        f"{data}: expected the {len(of_model)} classes of {checkpoint} in their order, got {len(of_data)}{words}"
    )


def showing_asked_for(arguments: argparse.Namespace, checkpoint: Any) -> Any:
    """How pictures are shown: as the checkpoint says, or the command line."""
    from vl_absvit.tasks.segmentation_evaluation import showing_of

    pictures = checkpoint.pictures
    if arguments.whole or arguments.window:
        window, stride = (side and tuple(side) for side in (arguments.window, arguments.stride))
        pictures = replace(pictures, window=window, stride=stride)
    return showing_of(pictures, checkpoint.vision)


def describe(
    arguments: argparse.Namespace, checkpoint: str, vision: "VisualEncoder", shown: str, dataset: str, pictures: int
) -> dict[str, Any]:
    """The entries of the result that say what was done."""
    from vl_absvit.tasks.vision_evaluation import look_in_words

    look = look_in_words(vision.variant)
    return {
        "protocol": f"{vision.label} {checkpoint} on {arguments.data}, {pictures} pictures of {arguments.split}; "
        f"{shown}; {look}; in {arguments.precision}; IoU accumulated over all pictures, void left out",
        "notes": [],
        "checkpoint": checkpoint,
        "data": str(arguments.data),
        "dataset": dataset,
        "split": arguments.split,
        "model": vision.label,
        "look": look,
        "precision": arguments.precision,
        "scales": arguments.scales,
        "mirrored": arguments.mirrored,
        "pictures": pictures,
    }


def scores_of_classes(scores: "PixelScores", classes: list[str]) -> dict[str, Any]:
    """mIoU and the like, and what each class has of it, in percent."""
    columns = zip(classes, scores.iou, scores.recall, scores.labelled, scores.predicted, strict=True)
    per_class = {
        name: {"iou": iou, "recall": recall, "labelled": labelled, "predicted": predicted}
        for name, iou, recall, labelled, predicted in columns
    }
    return {"miou": scores.miou, "macc": scores.macc, "aacc": scores.aacc, "per_class": per_class}


def report(result: dict[str, Any]) -> None:
    """Print the result."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(result["protocol"], soft_wrap=True, markup=False, highlight=False)
    absent = [name for name, of_class in result["per_class"].items() if of_class["iou"] is None]
    notes = [*result["notes"]]
    if result["miou"] is None:
        absent = []
    if absent:
        notes.append(f"{len(absent)} classes are neither labelled nor predicted and left out: {', '.join(absent[:5])}")
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)
    if result["miou"] is None:
        return
    table = Table("class", "IoU (%)", "recall (%)", "share of pixels (%)")
    total = sum(of_class["labelled"] for of_class in result["per_class"].values())
    for name, of_class in result["per_class"].items():
        if of_class["iou"] is not None:
            cells = (of_class["iou"], of_class["recall"], 100 * of_class["labelled"] / total)
            table.add_row(name, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    table.add_section()
    table.add_row("mean", f"{result['miou']:.2f}", f"{result['macc']:.2f}", "")
    table.add_row("all pixels", "", f"{result['aacc']:.2f}", "")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)


if __name__ == "__main__":
    run_main(main)
