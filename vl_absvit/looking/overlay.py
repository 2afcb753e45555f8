"""Maps over a picture: colours that are brightest where the map is strongest, and a ring around that place.

A map is a grid (h, w) that covers a box of the picture, in pixels (``geometry.py``).
"""

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from vl_absvit.looking.geometry import Box, cell_centres


def overlay(
    picture: Image.Image, grid: np.ndarray, box: Box, *, colormap: str = "inferno", strength: float = 0.8
) -> Image.Image:
    """Lay a map over the picture. The part that the grid does not cover looks like the weakest cells.

    Args:
        picture: RGB, upright.
        grid: the map, (h, w); shown between its own smallest and largest value.
        box: part of the picture that the grid covers.
        colormap: a name that matplotlib knows.
        strength: opacity of the map where it is weakest, in [0, 1]; strong cells are more transparent.
    """
    heat = spread(grid, box, picture.size)[..., None]  # (height, width, 1)
    colours = matplotlib.colormaps[colormap](heat[..., 0])[..., :3]
    opacity = strength * (1 - 0.6 * heat)  # strong cells keep the picture's own colours
    pixels = np.asarray(picture, dtype=np.float32) / 255
    mixed = np.rint(255 * (opacity * colours + (1 - opacity) * pixels)).astype(np.uint8)
    return Image.fromarray(mixed)


def spread(grid: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A map in [0, 1] for every pixel of a picture. It is smooth between centres of cells and 0 outside the box.

    Args:
        grid: (h, w).
        box: part of the picture that the grid covers.
        size: width and height of the picture.

    Returns:
        (height, width).
    """
    grid = np.asarray(grid, dtype=np.float32)
    low, high = grid.min(), grid.max()
    heat = (grid - low) / (high - low) if high > low else np.zeros_like(grid)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    smooth = Image.fromarray(heat).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
    whole = np.zeros(size[::-1], dtype=np.float32)
    whole[y0:y1, x0:x1] = np.asarray(smooth).clip(0, 1)
    return whole


def resized(picture: Image.Image, factor: float) -> Image.Image:
    """The picture with ``factor`` times as many pixels along each side, and at least one."""
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.LANCZOS)


def mark_strongest(picture: Image.Image, grid: np.ndarray, box: Box) -> None:
    """Draw a ring around the centre of every strongest cell into ``picture``, unless all cells are the same."""
    radius = max(3, min(picture.size) // 40)
    canvas = ImageDraw.Draw(picture)
    strongest = cell_centres(box, *grid.shape)[grid == grid.max()]
    for x, y in strongest if len(strongest) < grid.size else []:
        for ring, colour in ((radius + 1, "black"), (radius, "white")):
            canvas.ellipse((x - ring, y - ring, x + ring, y + ring), outline=colour, width=2)
