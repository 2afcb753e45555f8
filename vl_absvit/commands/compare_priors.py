"""One picture, several priors: does attention follow the prior, and how does that depend on its strength alpha?

vl-absvit compare-priors --checkpoint runs/vqa/checkpoints/best --image a.jpg --output DIR \\
    --priors "a red star" "a blue ring"
vl-absvit compare-priors --checkpoint runs/vqa/checkpoints/best --pairs runs/demo/world/pairs --output DIR

Priors of a VQA or retrieval run are texts; those of a pretraining are names of classes, whose prototypes
steer the second look. The run's vision.top_down must be absvit or absvit_qkv. Nothing is trained: alpha is set anew.

--image: DIR gets sheet.png, with a row per prior and a column per alpha, and scores.json with the numbers behind it.
--pairs: pictures of two things, one in each half, and pairs.json: [{"file": name, "left": class, "right": class,
"boxes": [[x0, y0, x1, y1], [x0, y0, x1, y1]]}, ...]. DIR gets scores.json; "definitions" in it say what is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from vl_absvit.cli import (
    OptionParser,
    add_block_option,
    add_checkpoint_option,
    add_precision_option,
    progress,
    run_main,
)
from vl_absvit.data.json_files import make_room, read_json, write_json
from vl_absvit.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from vl_absvit.evaluation.controllability import Control
    from vl_absvit.looking.geometry import Box
    from vl_absvit.looking.prior_comparison import (
        Priors,
        View,
    )

TEMPLATE = "a {}"
ALPHAS = (0.0, 1.0, 3.0, 10.0, 30.0)
PAIR = '{"file": name, "left": class, "right": class, "boxes": [[x0, y0, x1, y1], [x0, y0, x1, y1]]}'
OF_IMAGE = {
    "strongest": "the map's strongest cell, the first in raster order of several: row and column, centre in pixels of "
    "the picture, and value; null where all cells are the same",
    "cosine": "of each prior with the look as a whole: of texts as the dual encoder pools it, of classes as the "
    "classifier does",
    "share": "softmax over the priors given: of the classes' logits, or of the texts' cosines over 0.07",
    "probability": "of each prior's class among all classes",
}


class Pair(NamedTuple):
    """A picture with one thing in each half."""

    file: Path
    things: tuple[str, str]  # classes of the left and of the right one
    boxes: tuple[Box, Box]


def main() -> None:
    arguments = parse_arguments()
    import torch

    from vl_absvit.data.rgb import open_rgb
    from vl_absvit.hub import find
    from vl_absvit.looking.explanation import usual_block
    from vl_absvit.looking.maps import check_block
    from vl_absvit.looking.prior_comparison import class_priors, load_steerable, text_priors
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.vl_checkpoint import VLCheckpoint

    make_room(arguments.output / "scores.json")
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_steerable(found.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vision = checkpoint.model.to(device).vision
    vision.fold()
    if arguments.block is None:
        arguments.block = usual_block(vision)
    check_block(arguments.block, len(vision.all_blocks))
    trained = vision.modulate.keywords["gain"]
    if arguments.alphas is None:
        arguments.alphas = sorted({*ALPHAS, trained})
    reads_texts = isinstance(checkpoint, VLCheckpoint)
    if arguments.template is not None and not reads_texts:
        raise ConfigError("command line: --template makes texts of classes, but the checkpoint is a classifier")
    content = {
        "checkpoint": found.name,
        "priors_are": "texts" if reads_texts else "class prototypes",
        "trained_alpha": trained,
        "block": arguments.block,
        "precision": arguments.precision,
    }

    def name_priors(names: Sequence[str]) -> Priors:
        if isinstance(checkpoint, VLCheckpoint):
            return text_priors(checkpoint, names)
        return class_priors(checkpoint, names)

    with arithmetic(arguments.precision, device):
        if arguments.image is not None:
            picture = open_rgb(arguments.image)
            content |= compare_on_image(name_priors(arguments.priors), picture, arguments)
        else:
            pairs = read_pairs(arguments.pairs)
            names = classes = sorted({thing for pair in pairs for thing in pair.things})
            if reads_texts:
                content["template"] = arguments.template or TEMPLATE
                names = [content["template"].replace("{}", name.replace("_", " ")) for name in classes]
            try:
                priors = name_priors(names)
            except InputError as error:
                raise InputError(f"{arguments.pairs / 'pairs.json'}: {error}") from error
            content |= compare_on_pairs(priors, classes, pairs, arguments)
    write_json(arguments.output / "scores.json", content, indent=1)
    print(arguments.output / "scores.json")


def parse_arguments() -> argparse.Namespace:
    from vl_absvit.looking.pages import MAX_MAPS, MAX_PRIORS

    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA, retrieval or pretraining checkpoint")
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture")
    parser.add_argument("--priors", nargs="+", metavar="PRIOR", help="what to look for in --image: texts or classes")
    parser.add_argument("--pairs", type=Path, metavar="DIR", help="folder with pairs.json and its pictures")
    parser.add_argument(
        "--template", metavar="TEXT", help=f"text for a class of --pairs, which stands for {{}} (default: {TEMPLATE!r})"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--alphas", type=float, nargs="+", metavar="ALPHA",
        help="strengths of the top-down signal (default: that of training, and "
        f"{' '.join(f'{alpha:g}' for alpha in ALPHAS)})",
    )  # fmt: skip
    add_block_option(parser, "block whose tokens the maps measure")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures of --pairs per pass (default: 32)")
    add_precision_option(parser)
    arguments = parser.parse_args()
    given = {name for name in ("image", "priors", "pairs") if getattr(arguments, name) is not None}
    if given not in ({"image", "priors"}, {"pairs"}):
        parser.error("give --image and --priors, or --pairs")
    for option, values, most in (
        ("--alphas", arguments.alphas or [], MAX_MAPS - 1),
        ("--priors", arguments.priors or [], MAX_PRIORS),
    ):
        if len(set(values)) < len(values) or len(values) > most:
            parser.error(f"{option}: expected at most {most} different ones, got {len(values)}")
    if not all(isfinite(alpha) and alpha >= 0 for alpha in arguments.alphas or []):
        parser.error("--alphas must be numbers of at least 0")
    if not all(prior.strip() for prior in arguments.priors or []):
        parser.error("--priors: a prior is empty")
    if arguments.template is not None and (arguments.pairs is None or "{}" not in arguments.template):
        parser.error("--template goes with --pairs and must contain {}, the place of the class")
    if arguments.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    return arguments


def compare_on_image(priors: Priors, picture: Image.Image, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw what each prior makes of one picture; returns the numbers behind it."""
    import torch

    from vl_absvit.looking.geometry import seen_box
    from vl_absvit.looking.pages import several_priors
    from vl_absvit.looking.prior_comparison import sweep

    names, image = arguments.priors, priors.transform(picture).to(priors.vectors.device)
    rows = torch.arange(len(names), device=image.device)
    result = sweep(priors, image[None], rows, torch.zeros_like(rows), arguments.alphas, arguments.block)
    box = seen_box(*picture.size, image.shape[-1], priors.transform.resized_to)
    bottom_up, masks = result.first.maps[0].cpu().numpy(), result.prior_mask.cpu().numpy()
    trained = priors.vision.modulate.keywords["gain"]
    titles = {alpha: f"alpha {alpha:g}{' (as trained)' if alpha == trained else ''}" for alpha in arguments.alphas}
    maps = {
        name: (masks[row], {titles[alpha]: view.maps[row].cpu().numpy() for alpha, view in result.second.items()})
        for row, name in enumerate(names)
    }
    note = f"Each map between its own smallest and largest value, a ring at the largest; block {arguments.block}."
    several_priors(picture, bottom_up, maps, box, note=note).save(arguments.output / "sheet.png")
    print(arguments.output / "sheet.png")
    return {
        "image": str(arguments.image),
        "image_size": picture.size,
        "box": box,
        "bottom_up": describe(result.first, 0, names, box),
        "priors": [
            {
                "prior": name,
                "prior_mask": {"strongest": _strongest(masks[row], box)},
                "top_down": [
                    {"alpha": alpha} | describe(view, row, names, box) for alpha, view in result.second.items()
                ],
            }
            for row, name in enumerate(names)
        ],
        "definitions": OF_IMAGE,
    }


def describe(view: View, row: int, names: Sequence[str], box: Box) -> dict[str, Any]:
    """One row of a view, as JSON."""
    numbers = {"cosine": view.cosines, "share": view.logits.softmax(dim=-1), "probability": view.probabilities}
    return {"strongest": _strongest(view.maps[row].cpu().numpy(), box)} | {
        key: dict(zip(names, values[row].tolist(), strict=True))
        for key, values in numbers.items()
        if values is not None
    }


def _strongest(cells: np.ndarray, box: Box) -> dict[str, float] | None:
    from vl_absvit.evaluation.controllability import strongest_cell
    from vl_absvit.looking.geometry import cell_centres

    peak = strongest_cell(cells, cell_centres(box, *cells.shape))
    return peak and peak._asdict()


def read_pairs(folder: Path) -> list[Pair]:
    """The pictures of two things that ``pairs.json`` lists; raises ``InputError`` where it is of another form."""
    path = folder / "pairs.json"
    pairs = [_read_pair(entry, folder, f"{path}: pair {n}") for n, entry in enumerate(read_json(path, list), start=1)]
    if not pairs:
        raise InputError(f"{path}: expected pairs such as {PAIR}, got none")
    return pairs


def _read_pair(entry: Any, folder: Path, where: str) -> Pair:
    unlike = InputError(f"{where}: expected {PAIR}, got {str(entry):.60}")
    try:
        file, left, right = words = [entry[key] for key in ("file", "left", "right")]
        boxes = [tuple(box) for box in entry["boxes"]]
    except (TypeError, KeyError, IndexError) as error:
        raise unlike from error
    if not (
        all(isinstance(word, str) and word.strip() and "\0" not in word for word in words)
        and len(boxes) == 2
        and all(len(box) == 4 and all(type(edge) in (int, float) for edge in box) for box in boxes)
    ):
        raise unlike
    if left == right:
        raise InputError(f"{where}: expected two things of different classes, got {left!r:.60} twice")
    return Pair(folder / file, (left, right), (boxes[0], boxes[1]))


def compare_on_pairs(
    priors: Priors, classes: Sequence[str], pairs: Sequence[Pair], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Score how attention follows the prior from one thing of a picture to the other, and show the table."""
    import numpy as np
    import torch

    from vl_absvit.data.rgb import open_rgb
    from vl_absvit.evaluation.controllability import DEFINITIONS, control
    from vl_absvit.looking.geometry import cell_centres, seen_box
    from vl_absvit.looking.prior_comparison import sweep_pairs

    device, size = priors.vectors.device, arguments.batch_size
    things = torch.tensor([[classes.index(thing) for thing in pair.things] for pair in pairs], device=device)
    boxes_seen, middles = [], []

    def batches(starts: Iterable[int]) -> Iterator[tuple[Tensor, Tensor]]:
        for start in starts:
            images = []
            for pair in pairs[start : start + size]:
                picture = open_rgb(pair.file)
                images.append(priors.transform(picture))
                boxes_seen.append(seen_box(*picture.size, images[-1].shape[-1], priors.transform.resized_to))
                middles.append(picture.width / 2)
                check_halves(pair, boxes_seen[-1], middles[-1])
            yield torch.stack(images).to(device), things[start : start + size]

    with progress() as bar:
        starts = bar.track(range(0, len(pairs), size), description="looking")
        looks = sweep_pairs(priors, batches(starts), arguments.alphas, arguments.block)
    centres = np.stack([cell_centres(box, *looks.first.maps.shape[2:]) for box in boxes_seen])
    boxes = np.array([pair.boxes for pair in pairs], dtype=float)
    first, mask, *second = (
        control(view.maps, centres, np.array(middles), boxes, view.logits)
        for view in (looks.first, looks.prior_mask, *looks.second.values())
    )
    top_down = dict(zip(looks.second, second, strict=True))
    show({"bottom-up": first, "prior mask": mask} | {f"alpha {alpha:g}": each for alpha, each in top_down.items()})
    return {
        "pairs": str(arguments.pairs),
        "pictures": len(pairs),
        "bottom_up": first._asdict(),
        "prior_mask": mask._asdict(),
        "top_down": [{"alpha": alpha} | each._asdict() for alpha, each in top_down.items()],
        "definitions": DEFINITIONS,
    }


def check_halves(pair: Pair, seen: Box, middle: float) -> None:
    """Raise ``InputError`` where a thing sticks out of its half of what the model sees, by more than rounding."""
    left, right = (seen[0], seen[1], middle, seen[3]), (middle, *seen[1:])
    for side, half, (x0, y0, x1, y1) in zip(("left", "right"), (left, right), pair.boxes, strict=True):
        is_inside = half[0] - 0.5 <= x0 < x1 <= half[2] + 0.5 and half[1] - 0.5 <= y0 < y1 <= half[3] + 0.5
        if not is_inside:
            raise InputError(
                f"{pair.file}: the {side} thing, box {[x0, y0, x1, y1]}, is not within the {side} half of what the "
                f"model sees, {[round(edge, 1) for edge in half]}"
            )


def show(scores: dict[str, Control]) -> None:
    """A row per map."""
    titles = ("asked_half", "both_halves", "asked_object", "share")
    table = Table("%", *(Column(title.replace("_", " "), justify="right") for title in titles), box=SIMPLE)
    for name, each in scores.items():
        values = [getattr(each, title) for title in titles]
        table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in values))
    Console().print(table)
    for name, each in scores.items():
        if each.without_peak:
            print(f"{name}: {each.without_peak:,} maps are the same in all cells and point nowhere")


if __name__ == "__main__":
    run_main(main)
