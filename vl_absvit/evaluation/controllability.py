"""Whether attention follows the prior in pictures that show one thing in each half.

Shapes: n pictures with two priors each, for the left and for the right thing; h x w cells of a map. Coordinates are
pixels. Boxes are (x0, y0, x1, y1) with the far edges excluded.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.pointing import points_at

DEFINITIONS = {
    "asked_half": "percent of priors for which the centre of the map's strongest cell lies in the half of the thing "
    "asked for; of several equally strong cells, each must. A map that no prior moves gets at most 50",
    "both_halves": "percent of pictures where this holds for both priors: the map moves from half to half. "
    "A map that no prior moves gets 0",
    "asked_object": "percent of priors for which it lies in the box of the thing asked for",
    "share": "mean share of the thing asked for, in percent: softmax over the two things of the classifier's logits, "
    "or of the similarities of their texts to the look over 0.07. What no prior changes gets 50",
    "without_peak": "priors whose map is the same in all cells, such as a prior mask of zeros; they point nowhere",
}


def read_steering(path: Path) -> dict[str, float]:
    """How far the second look follows the prior at the strength of training, as ``vl-absvit compare-priors`` found.

    Raises:
        InputError: the file is none of its results on pairs.
    """
    content = read_json(path, dict)
    try:
        (trained,) = (row for row in content["top_down"] if row["alpha"] == content["trained_alpha"])
        return {name: trained[name] for name in ("alpha", "asked_half", "both_halves")}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected a result of vl-absvit compare-priors --pairs for the trained strength: {error!r}"
        ) from error


class Peak(NamedTuple):
    """The strongest cell of a map."""

    row: int
    column: int
    x: float  # of the cell's centre
    y: float
    value: float


def strongest_cell(cells: np.ndarray, centres: np.ndarray) -> Peak | None:
    """The strongest cell of a map, the first in raster order if several are equal; None if all are equal.

    Args:
        cells: (h, w), finite.
        centres: of the cells as (x, y), (h, w, 2).
    """
    if cells.min() == cells.max():
        return None
    row, column = (int(place) for place in np.unravel_index(cells.argmax(), cells.shape))
    x, y = centres[row, column].tolist()
    return Peak(row, column, x, y, float(cells[row, column]))


class Control(NamedTuple):
    """Scores of how well one kind of map follows the prior (see ``DEFINITIONS``)."""

    asked_half: float
    both_halves: float
    asked_object: float
    share: float | None  # None if there are no logits
    without_peak: int


def control(
    maps: np.ndarray, centres: np.ndarray, middles: np.ndarray, boxes: np.ndarray, logits: np.ndarray | None = None
) -> Control:
    """Scores of one kind of map over n pictures.

    Args:
        maps: maps with the prior of the left and of the right thing, (n, 2, h, w), finite.
        centres: centres of the cells as (x, y), (n, h, w, 2).
        middles: the x at which the halves of a picture meet, (n,); it belongs to neither half.
        boxes: boxes of the left and of the right thing, (n, 2, 4).
        logits: logits of the left and of the right thing (last axis) for each prior, (n, 2, 2).
    """
    halves = [[(-np.inf, -np.inf, x, np.inf), (np.nextafter(x, np.inf), -np.inf, np.inf, np.inf)] for x in middles]
    in_half = _points_at(maps, centres, np.array(halves))  # (n, 2)
    on_object = _points_at(maps, centres, boxes)
    return Control(
        asked_half=100 * float(in_half.mean()),
        both_halves=100 * float(in_half.all(axis=1).mean()),
        asked_object=100 * float(on_object.mean()),
        share=None if logits is None else 100 * float(share_of_asked(logits).mean()),
        without_peak=int((maps.max(axis=(2, 3)) == maps.min(axis=(2, 3))).sum()),
    )


def share_of_asked(logits: np.ndarray) -> np.ndarray:
    """Softmax over both things, taken at the prior's own thing: (n, 2, 2) -> (n, 2)."""
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    return np.diagonal(powers / powers.sum(axis=2, keepdims=True), axis1=1, axis2=2)


def _points_at(maps: np.ndarray, centres: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each map points into the box of its prior's thing, (n, 2)."""
    return np.array(
        [
            [points_at(cells, of_cells, [box]) for cells, box in zip(pair, own, strict=True)]
            for pair, of_cells, own in zip(maps, centres, boxes, strict=True)
        ]
    )
