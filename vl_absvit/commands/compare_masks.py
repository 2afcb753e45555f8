"""Take a model's maps for coarse segmentations, and compare them with masks of objects.

vl-absvit compare-masks --maps EXPORT --masks DIR --output scores.json
vl-absvit compare-masks --maps EXPORT --masks VOC2012/SegmentationClass --list VOC2012/ImageSets/Segmentation/val.txt \\
    --train-maps TRAIN_EXPORT --train-masks VOC2012/SegmentationClass --output scores.json

EXPORT is written by vl-absvit export-attention. DIR has a PNG of numbers for each picture, found by its name: palette
or grey, 0 is background, --void is left out, all else is foreground. A map is foreground above --threshold. scores.json
has IoU, false positives and negatives, a sweep of thresholds, energy and pointing for every map and for baselines;
"definitions" says what each means. Curves stand beside it as a picture.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from vl_absvit.cli import OptionParser, add_export_options, progress, run_main
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.data.masks import find_masks, read_mask
from vl_absvit.errors import InputError
from vl_absvit.looking.export_matching import match_files, only_listed
from vl_absvit.looking.export_reader import check_kinds, main_map, read_index, read_maps
from vl_absvit.looking.own_texts import read_names

if TYPE_CHECKING:
    from vl_absvit.evaluation.map_segmentation import Counts

VOID = 255


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.evaluation.curve_plot import draw_curves
    from vl_absvit.evaluation.map_segmentation import DEFINITIONS, THRESHOLDS, best_threshold, summarise

    make_room(arguments.output)
    thresholds = np.unique(np.append(THRESHOLDS, arguments.threshold))
    kinds, pictures, left_out = count_all(arguments.maps, arguments.masks, arguments, thresholds, arguments.list)
    trained = {}
    if arguments.train_maps is not None:
        _, train, _ = count_all(arguments.train_maps, arguments.train_masks, arguments, thresholds, None, kinds)
        names = list(dict.fromkeys(name for picture in train for name in picture))
        trained = {name: best_threshold(train, name, thresholds) for name in names}
    scores = summarise(pictures, main_map(kinds), thresholds, arguments.threshold, trained)
    scores["counts"] |= left_out
    scores |= {"void": arguments.void, "definitions": DEFINITIONS}
    write_json(arguments.output, scores, indent=1)
    curves = {
        title: {
            name: (thresholds.tolist(), [np.nan if at[measure] is None else at[measure] for at in row["sweep"]])
            for name, row in scores["rows"].items()
            if "sweep" in row
        }
        for title, measure in (("foreground IoU (%)", "iou"), ("false positives (%)", "false_positive"))
    }
    everything = scores["rows"]["everything"]["iou"]["mean"]
    if everything is not None:
        curves["foreground IoU (%)"]["everything"] = ([0.0, 1.0], [everything] * 2)
    draw_curves(arguments.output.with_suffix(".png"), curves, ["threshold"])
    show(scores)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_export_options(parser)
    parser.add_argument("--masks", type=Path, required=True, metavar="DIR", help="folder of masks, PNG files")
    parser.add_argument("--list", type=Path, metavar="FILE", help="names of the pictures to compare, one a line")
    parser.add_argument("--train-maps", type=Path, metavar="EXPORT", help="export to choose the best threshold on")
    parser.add_argument("--train-masks", type=Path, metavar="DIR", help="masks of --train-maps")
    parser.add_argument("--threshold", type=float, default=0.3, help="of the scaled map (default: 0.3)")
    parser.add_argument(
        "--void", type=parse_void, default=VOID, metavar="VALUE", help="of pixels left out, or none (default: 255)"
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.threshold < 1:
        parser.error("--threshold must be at least 0 and below 1")
    if (arguments.train_maps is None) != (arguments.train_masks is None):
        parser.error("--train-maps and --train-masks go together")
    if arguments.output.suffix == ".png":
        parser.error("--output is the scores' file, such as scores.json")
    return arguments


def parse_void(text: str) -> int | None:
    """The value of pixels that are left out; None for none."""
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 255:
        raise argparse.ArgumentTypeError(f"expected none or a value from 1 to 255, got {text}")
    return int(text)


def count_all(
    export: Path,
    masks: Path,
    arguments: argparse.Namespace,
    thresholds: np.ndarray,
    listed: Path | None,
    kinds: list[str] | None = None,
) -> tuple[list[str], list[dict[str, "Counts"]], dict[str, int]]:
    """Compare every exported picture that has a mask; also the kinds of maps, and how many were left out and why.

    Raises:
        InputError: nothing is left to compare, or a listed picture, a file or a map is missing or wrong.
    """
    from vl_absvit.evaluation.map_segmentation import SEED, count_picture

    index, files = read_index(export), find_masks(masks)
    if listed is not None:
        index = only_listed(index, read_names(listed), listed)
    rows = match_files(index, files, masks)
    if listed is not None and None in rows:
        raise InputError(f"{masks}: has no mask of {index[rows.index(None)]['image']}, which {listed} lists")
    pairs = [(entry, files[row]) for entry, row in zip(index, rows, strict=True) if row is not None]
    if not pairs:
        raise InputError(f"{masks}: has no mask of the {len(index):,} exported pictures, such as {index[0]['image']}")
    kinds = kinds or arguments.map or list(read_maps(export, pairs[0][0]))
    main_kind = main_map(kinds)
    ring = np.random.default_rng(SEED).permutation(len(pairs))
    donor_of = dict(zip(ring.tolist(), np.roll(ring, -1).tolist(), strict=True))
    pictures: list[dict[str, Counts]] = []
    has_class, without_class = False, 0
    with progress() as bar:
        for number, (entry, file) in enumerate(bar.track(pairs, description="comparing")):
            maps, archive = read_maps(export, entry), export / entry["npz"]
            check_kinds(maps, kinds, archive, only=not arguments.map)
            numbers = read_mask(masks / file, tuple(entry["image_size"]))
            valid = np.ones(numbers.shape, dtype=bool) if arguments.void is None else numbers != arguments.void
            donor = read_maps(export, pairs[donor_of[number]][0]).get(main_kind) if len(pairs) > 1 else None
            try:
                counted = count_picture(
                    {kind: maps[kind] for kind in kinds},
                    tuple(entry["box"]),
                    tuple(entry["image_size"]),
                    numbers != 0,
                    valid,
                    other_map=donor,
                    thresholds=thresholds,
                )
            except InputError as error:
                raise InputError(f"{archive}: {error}") from error
            if counted is None:
                without_class += 1
            else:
                pictures.append(counted)
                has_class |= counted["everything"].foreground > 0
    if not has_class:
        void = "" if arguments.void is None else f" but {arguments.void}; say --void none if that is the foreground"
        raise InputError(f"{masks}: nothing that the model saw has a foreground, all values are 0{void}")
    left_out = {
        "pictures_without_mask": len(index) - len(pairs),
        "masks_without_picture": len(files) - len({file for _, file in pairs}),
        "pictures_of_void_alone": without_class,
    }
    return list(kinds), pictures, left_out


def show(scores: dict[str, Any]) -> None:
    """The rows as a table, and the counts that are not 0."""
    table = Table(Column("map", no_wrap=True), title=f"maps above {scores['threshold']:g} as foreground", box=SIMPLE)
    columns = ("iou", "false_positive", "false_negative", "energy", "pointing")
    trained = any("best_on_train" in row for row in scores["rows"].values())
    for name in ("IoU", "FP", "FN", "energy", "pointing", *["IoU, best on train"] * trained, "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in scores["rows"].items():
        means = ["-" if row[column]["mean"] is None else f"{row[column]['mean']:.2f}" for column in columns]
        if row["iou"]["standard_error"] is not None:
            means[0] += f" ± {row['iou']['standard_error']:.2f}"
        if trained:
            best = row.get("best_on_train")
            means.append("-" if best is None else f"{best['iou']['mean']:.2f} ({best['threshold']:g})")
        table.add_row(name, *means, f"{row['iou']['number']:,}")
    Console().print(table)
    for name, count in scores["counts"].items():
        numbers: dict[str, int] = count if isinstance(count, dict) else {"": count}
        for kind, number in numbers.items():
            if number:
                print(f"{number:,} {name.replace('_', ' ')}{f': {kind}' if kind else ''}")


if __name__ == "__main__":
    run_main(main)
