"""How far prior masks are open. The second look follows the text only if masks are neither shut nor open everywhere."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Openness(NamedTuple):
    """Statistics of several masks."""

    shut: float  # percent of masks that are 0 everywhere, so that nothing is fed back
    open: float  # mean percent of patches above 0
    largest: float  # median of the masks' largest values, in [0, 1]


def openness(masks: Sequence[np.ndarray]) -> Openness | None:
    """Statistics of masks (h, w) with values in [0, 1]; None without masks."""
    if not len(masks):
        return None
    is_open = np.stack(masks).reshape(len(masks), -1) > 0
    largest = [float(mask.max()) for mask in masks]
    return Openness(100 * float((~is_open.any(axis=1)).mean()), 100 * float(is_open.mean()), float(np.median(largest)))
