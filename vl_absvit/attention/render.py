"""Maps as pictures: an overlay on the original image, and a row of overlays under their question.

A map is a grid (h, w) that covers the box (x0, y0, x1, y1) of the picture, in its pixels; see ``geometry.py``.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vl_absvit.attention.geometry import Box, cell_centres

TILE, GAP, MARGIN = 264, 14, 22
"""Height of a picture in a panel, the space between two, and the space around all; in pixels."""
PAPER, INK, FAINT, RIGHT, WRONG = "#ffffff", "#1d2330", "#7a8292", "#1f7a4d", "#b3372f"
MAX_LINES = 3
"""Lines of a panel's question; what is longer ends in an ellipsis."""


def overlay(
    picture: Image.Image,
    grid: np.ndarray,
    box: Box,
    *,
    colormap: str = "inferno",
    strength: float = 0.72,
    mark: bool = True,
) -> Image.Image:
    """Lay a map over the picture: bright where it is strong, dim where it is weak or where the grid does not reach.

    Args:
        picture: RGB, upright.
        grid: the map, (h, w); shown between its own smallest and largest value.
        box: part of the picture that the grid covers.
        colormap: a name that matplotlib knows.
        strength: opacity of the map, in [0, 1].
        mark: draw a ring around the centre of the strongest cell.
    """
    heat = _heat(grid, box, picture.size)  # (height, width), in [0, 1]
    colours = matplotlib.colormaps[colormap](heat)[..., :3]
    pixels = np.asarray(picture, dtype=np.float32) / 255
    opacity = strength * (0.72 + 0.28 * (1 - heat))[..., None]
    mixed = Image.fromarray(np.rint(255 * (opacity * colours + (1 - opacity) * pixels)).clip(0, 255).astype(np.uint8))
    if mark:
        _mark_strongest(mixed, grid, box)
    return mixed
