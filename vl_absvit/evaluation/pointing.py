"""The pointing game: whether the strongest cell of a map lies on an asked object.

Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016. Here it is played on the cells of the map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vl_absvit.errors import InputError

Box = Sequence[float]
"""(x0, y0, x1, y1) in pixels, the far edges excluded."""


class PointingScore(NamedTuple):
    """How often maps point at an asked object."""

    accuracy: float  # percent of ``questions``; 0 without questions
    questions: int  # questions with at least one box
    without_boxes: int  # questions without a box, which are left out


def points_at(cells: np.ndarray, centres: np.ndarray, boxes: Sequence[Box]) -> bool:
    """Whether the centre of the strongest cell lies in a box. If several cells are equally strong, all of them must.

    Args:
        cells: a map, (h, w).
        centres: centre of each cell in pixels, as (x, y), (h, w, 2).
        boxes: boxes of the objects, in pixels.
    """
    strongest = centres[cells == cells.max()]  # (ties, 2)
    if not len(strongest):
        raise InputError("a map is not finite, it points nowhere")
    return all(any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes) for x, y in strongest)


def pointing_accuracy(
    maps: Sequence[np.ndarray], centres: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]
) -> PointingScore:
    """Share of questions whose map points at an asked object. Questions without boxes are left out and counted.

    Args:
        maps: a map for each question, (h, w).
        centres: centres of the map's cells for each question, (h, w, 2).
        boxes: boxes of the objects that each question names.
    """
    questions = zip(maps, centres, boxes, strict=True)
    hits = [points_at(cells, of_cells, of_objects) for cells, of_cells, of_objects in questions if len(of_objects)]
    return PointingScore(100 * sum(hits) / len(hits) if hits else 0.0, len(hits), len(maps) - len(hits))
