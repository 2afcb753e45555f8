"""Compare where a model looked with where people's eyes rested.

vl-absvit compare-fixations --maps EXPORT --fixations OUT --output scores.json

EXPORT is written by vl-absvit export-attention about the same pictures, one map of a kind for each; OUT by
vl-absvit prepare-fixations. Only the part of a picture that the model saw counts. --first drop leaves out each
observer's first fixation, which lies where the picture appeared. "definitions" in scores.json says what each row and
number means.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from vl_absvit.cli import OptionParser, add_export_options, progress, run_main
from vl_absvit.data.fixations import LookedAt, read_looked_at
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.errors import InputError
from vl_absvit.looking.export_matching import match_files
from vl_absvit.looking.export_reader import check_kinds, main_map, read_index, read_maps

SHORT = dict(
    nss="NSS", auc_judd="AUC", auc_shuffled="sAUC", cc="CC", sim="SIM", kl="KL", information_gain="IG"
)  # fmt: skip
"""Names of metrics in the table."""


def main() -> None:
    arguments = parse_arguments()
    make_room(arguments.output)
    pictures = read_pictures(arguments.fixations, arguments.first)
    index = read_index(arguments.maps)
    entries = match(index, pictures, arguments)
    scores = compare(pictures, entries, arguments)
    scores["counts"]["exported_without_fixations"] = len(index) - len(pictures)
    write_json(arguments.output, scores, indent=1)
    show(scores)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_export_options(parser)
    parser.add_argument("--fixations", type=Path, required=True, metavar="OUT", help="the prepared fixations")
    parser.add_argument(
        "--first", choices=("keep", "drop"), default="keep", help="each observer's first fixation (default: keep)"
    )
    parser.add_argument(
        "--sigma", type=float, metavar="PX", help="of the density of fixations (default: 0.03 of the longer side)"
    )
    parser.add_argument(
        "--binary", action="store_true", help="count a pixel once in NSS, however often it was fixated (MIT benchmark)"
    )
    arguments = parser.parse_args()
    if arguments.sigma is not None and not 0 < arguments.sigma <= 1000:
        parser.error("--sigma must be above 0 and at most 1000 pixels")
    return arguments


def read_pictures(folder: Path, first: str) -> list[LookedAt]:
    """The prepared pictures with their fixations, without the first ones where they are dropped."""
    pictures = read_looked_at(folder)
    if first == "drop":
        try:
            pictures = [picture.without_first() for picture in pictures]
        except InputError as error:
            raise InputError(f"{folder}: {error} with --first keep") from error
    return pictures


def match(
    index: Sequence[dict[str, Any]], pictures: Sequence[LookedAt], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The line of the export's index for every picture.

    Raises:
        InputError: one is missing, or there twice, or of another size.
    """
    lines: dict[int, dict[str, Any]] = {}
    rows = match_files(index, [picture.file for picture in pictures], arguments.fixations)
    for entry, row in zip(index, rows, strict=True):
        if row is None:
            continue
        if row in lines:
            raise InputError(f"{arguments.maps}: {pictures[row].file} was exported more than once, see {entry['id']}")
        if tuple(entry["image_size"]) != pictures[row].size:
            got, expected = (" x ".join(map(str, size)) for size in (entry["image_size"], pictures[row].size))
            raise InputError(
                f"{arguments.maps}: {entry['id']} is about a picture of {got} pixels, {pictures[row].file} in "
                f"{arguments.fixations} has {expected}"
            )
        lines[row] = entry
    missing = [picture.file for row, picture in enumerate(pictures) if row not in lines]
    if missing:
        raise InputError(
            f"{arguments.maps}: {len(missing)} of the {len(pictures)} pictures with fixations were not exported, e.g. "
            f"{missing[0]}; export all of them"
        )
    return [lines[row] for row in range(len(pictures))]


def compare(
    pictures: Sequence[LookedAt], entries: Sequence[dict[str, Any]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Score the maps of every picture, and the baselines.

    Raises:
        InputError: a file is damaged, lacks a map, or nothing is left to compare.
    """
    from vl_absvit.evaluation.fixation_comparison import (
        DEFINITIONS,
        ONCE_PER_PIXEL,
        SEED,
        Fixations,
        score_picture,
        summarise,
    )

    kinds = arguments.map or list(read_maps(arguments.maps, entries[0]))
    main_kind = main_map(kinds)
    looked = [Fixations(picture.places, picture.observers, picture.size) for picture in pictures]
    # The picture after each one in a ring that is drawn once, so that every map is used once.
    ring = np.random.default_rng(SEED).permutation(len(pictures))
    donor_of = dict(zip(ring.tolist(), np.roll(ring, -1).tolist(), strict=True))
    scored, beyond = [], 0
    with progress() as bar:
        task = bar.add_task("comparing", total=len(pictures))
        for row, (entry, own) in enumerate(zip(entries, looked, strict=True)):
            maps = read_maps(arguments.maps, entry)
            file = arguments.maps / entry["npz"]
            check_kinds(maps, kinds, file, only=not arguments.map)
            others = [other.on(own.size) for place, other in enumerate(looked) if place != row]
            donor = read_maps(arguments.maps, entries[donor_of[row]]).get(main_kind) if len(pictures) > 1 else None
            try:
                scores = score_picture(
                    own,
                    {kind: maps[kind] for kind in kinds},
                    tuple(entry["box"]),
                    others=np.concatenate(others) if others else np.empty((0, 2)),
                    other_map=donor,
                    sigma=arguments.sigma,
                    once_per_pixel=arguments.binary,
                )
            except InputError as error:
                raise InputError(f"{file}: {error}") from error
            if scores is not None:
                scored.append(scores)
            beyond += len(own.places) - (0 if scores is None else scores.fixations)
            bar.advance(task)
    if not scored:
        raise InputError(f"{arguments.fixations}: no fixation is on what the model saw")
    summary = summarise(scored, main_kind)
    summary["counts"] |= {"fixations_beyond_what_was_seen": beyond, "pictures_without": len(pictures) - len(scored)}
    settings = {"first_fixation": arguments.first, "sigma": arguments.sigma, "binary": arguments.binary}
    definitions = DEFINITIONS | ({"nss": ONCE_PER_PIXEL} if arguments.binary else {})
    return summary | settings | {"definitions": definitions}


def show(scores: dict[str, Any]) -> None:
    """The rows as a table, and the counts that are not 0."""
    from vl_absvit.evaluation.fixation_comparison import METRICS

    first = "dropped" if scores["first_fixation"] == "drop" else "kept"
    title = f"agreement with fixations, first ones {first}" + (", each pixel once in NSS" if scores["binary"] else "")
    table = Table(Column("map", no_wrap=True), title=title, box=SIMPLE)
    for name in (*(SHORT[metric] for metric in METRICS), "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in scores["rows"].items():
        means = [row[metric]["mean"] for metric in METRICS]
        cells = ["-" if mean is None else f"{mean:.2f}" for mean in means]
        table.add_row(name, *cells, f"{row['nss']['number']:,}")
    Console().print(table)
    for name, count in scores["counts"].items():
        numbers = count if isinstance(count, dict) else {"": count}
        for kind, number in numbers.items():
            if number:
                print(f"{number:,} {name.replace('_', ' ')}{f': {kind}' if kind else ''}")


if __name__ == "__main__":
    run_main(main)
