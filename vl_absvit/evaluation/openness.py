"""How far prior masks open: a second look that is to follow the text needs a mask that is neither shut nor all open."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Openness(NamedTuple):
    """Of several masks, in percent but for the last."""

    shut: float  # masks that are 0 everywhere: nothing is fed back
    open: float  # mean share of the patches above 0
    largest: float  # median of the masks' largest values, in [0, 1]


def openness(masks: Sequence[np.ndarray]) -> Openness | None:
    """How far the masks (h, w) each, in [0, 1], are open; None where there are none."""
    if not len(masks):
        return None
    is_open = np.stack(masks).reshape(len(masks), -1) > 0
    largest = [float(mask.max()) for mask in masks]
    return Openness(100 * float((~is_open.any(axis=1)).mean()), 100 * float(is_open.mean()), float(np.median(largest)))
