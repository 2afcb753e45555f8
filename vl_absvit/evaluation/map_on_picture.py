"""A map of cells as values for the pixels of its picture.

A map covers a box of the picture, (x0, y0, x1, y1) in pixels; the model saw nothing outside. The centre of pixel (x, y)
is at (x + 0.5, y + 0.5), and so is that of a cell.
"""

from typing import NamedTuple

import numpy as np

from vl_absvit.errors import InputError
from vl_absvit.evaluation.attention_agreement import Box, check_finite


class Seen(NamedTuple):
    """The pixels whose centres lie in a box: columns from ``left`` to before ``right``, rows from ``top``."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, values: np.ndarray) -> np.ndarray:
        """This part of an array of pixels, (rows, columns, ...)."""
        return values[self.top : self.bottom, self.left : self.right]


def seen_pixels(box: Box, size: tuple[int, int]) -> Seen:
    """The pixels that a map covers.

    Args:
        box: within the picture; rounding may exceed it by half a pixel.
        size: width and height of the picture.

    Raises:
        InputError: the box is not within the picture, or no pixel is in it.
    """
    (width, height), (x0, y0, x1, y1) = size, box
    if not (-0.5 <= x0 < x1 <= width + 0.5 and -0.5 <= y0 < y1 <= height + 0.5):
        raise InputError(f"the box {tuple(box)} is not a part of a picture of {width} x {height}")
    left, top = (max(0, int(np.ceil(edge - 0.5))) for edge in (x0, y0))
    right, bottom = (min(side, int(np.ceil(edge - 0.5))) for edge, side in ((x1, width), (y1, height)))
    if left >= right or top >= bottom:
        raise InputError(f"the box {tuple(box)} holds no pixel of a picture of {width} x {height}")
    return Seen(left, top, right, bottom)


def on_pixels(grid: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The map at the pixels of ``seen_pixels``, float64: bilinear between cells' centres, constant beyond the outer.

    Args:
        grid: (h, w).
        box, size: as ``seen_pixels``.

    Raises:
        InputError: as ``seen_pixels``; or the map is no grid of finite numbers.
    """
    grid = np.asarray(grid, dtype=np.float64)
    if grid.ndim != 2 or grid.size == 0:
        raise InputError(f"expected a map of the shape (h, w), got {grid.shape}")
    check_finite(grid)
    seen, (x0, y0, x1, y1) = seen_pixels(box, size), box
    by_row = _interpolated(grid, np.arange(seen.top, seen.bottom), y0, y1)  # (rows, w)
    return _interpolated(by_row.T, np.arange(seen.left, seen.right), x0, x1).T


def _interpolated(values: np.ndarray, pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values of cells between two edges, (cells, ...), at the centres of pixels, (pixels, ...)."""
    cells = len(values)
    place = ((pixels + 0.5 - low) / (high - low) * cells - 0.5).clip(0, cells - 1)
    before = np.minimum(place.astype(int), max(cells - 2, 0))
    share = (place - before)[:, None]
    return values[before] * (1 - share) + values[np.minimum(before + 1, cells - 1)] * share
