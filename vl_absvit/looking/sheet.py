"""Draw one picture under several priors: a row for each prior, a column for each strength of the top-down signal."""

import warnings
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vl_absvit.looking.geometry import Box, cell_centres, scaled
from vl_absvit.looking.render import FAINT, GAP, INK, MARGIN, PAPER, overlay

TILE, WIDEST = 168, 252
"""Height and largest width of a picture, in pixels. Wider pictures are made lower."""
HEADING, CAPTION = 34, 24
"""Height of a row's heading and of the line below a picture, in pixels."""
MAX_ROWS, MAX_COLUMNS = 32, 16
"""Largest number of rows and of columns. Viewers do not show larger pages."""
_DPI = 100


def sheet(
    picture: Image.Image, bottom_up: np.ndarray, rows: Mapping[str, Mapping[str, np.ndarray]], box: Box, *, note: str
) -> Image.Image:
    """Draw the picture with its bottom-up map, and below them a row of maps for every prior.

    Args:
        picture: RGB, upright.
        bottom_up: (h, w).
        rows: prior -> title -> map, (h, w); at most ``MAX_ROWS`` rows of ``MAX_COLUMNS`` maps.
        box: part of the picture that the maps cover.
        note: one line at the foot of the page.
    """
    scale = min(TILE / picture.height, WIDEST / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    large = picture.resize(size, Image.Resampling.LANCZOS)
    page = [("", {"image": None, "bottom-up": bottom_up}), *rows.items()]
    step_x, step_y = size[0] + GAP, HEADING + size[1] + CAPTION
    width = 2 * MARGIN - GAP + step_x * max(len(tiles) for _, tiles in page)
    height = 2 * MARGIN + step_y * len(page) - HEADING + CAPTION
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, **style: object) -> None:
        figure.text(x / width, 1 - y / height, text, va="center", parse_math=False, **style)

    for number, (heading, tiles) in enumerate(page):
        top = MARGIN + number * step_y
        write(MARGIN, top - HEADING / 2, _shorten(heading, width // 9), color=INK, size=11, weight="bold")
        for column, (title, grid) in enumerate(tiles.items()):
            left = MARGIN + column * step_x
            axes = figure.add_axes((left / width, 1 - (top + size[1]) / height, size[0] / width, size[1] / height))
            _draw(axes, large, grid, scaled(box, scale))
            write(left + size[0] / 2, top + size[1] + CAPTION / 2, title, color=FAINT, size=9, ha="center")
    write(MARGIN, height - MARGIN - CAPTION / 2, _shorten(note, width // 6), color=FAINT, size=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # such a letter becomes an empty box
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw(axes, picture: Image.Image, grid: np.ndarray | None, box: Box) -> None:
    """Draw the picture, with its map if there is one and a ring around every strongest cell of a map that varies."""
    width, height = picture.size
    axes.set_axis_off()
    axes.imshow(picture if grid is None else overlay(picture, grid, box), extent=(0, width, height, 0))
    if grid is not None and grid.min() < grid.max():
        x, y = cell_centres(box, *grid.shape)[grid == grid.max()].T
        for colour, line in (("black", 3.5), ("white", 1.8)):
            axes.scatter(x, y, s=60, facecolors="none", edgecolors=colour, linewidths=line)
    axes.set(xlim=(0, width), ylim=(height, 0))


def _shorten(text: str, letters: int) -> str:
    """The text in one line of at most ``letters`` letters."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"
