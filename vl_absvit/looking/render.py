"""Draw maps: an overlay on the original picture, and a panel of overlays below a question or caption.

A map is a grid (h, w) that covers a box of the picture, in pixels (``geometry.py``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vl_absvit.looking.geometry import Box, cell_centres, scaled

TILE, GAP, MARGIN = 264, 14, 22
"""Height of a picture in a panel, space between two pictures, and margin of the panel, in pixels."""
WIDEST = 2 * TILE
"""Largest width of a picture, in pixels; wider pictures are made lower."""
PAPER, INK, FAINT, RIGHT, WRONG = "#ffffff", "#1d2330", "#767e8e", "#1f7a4d", "#b3372f"
CAPTION = 32
"""Height of the line below a picture in a panel, in pixels."""
PER_ROW = 4
"""Largest number of pictures side by side."""
MAX_LINES = 3
"""Largest number of lines of a panel's text. A longer text is cut and ends in an ellipsis."""


class Remark(NamedTuple):
    """A remark below a panel's pictures, such as "model red"."""

    about: str
    words: str
    colour: str = INK


def remarks_on_answer(predicted: str, truth: str | None) -> list[Remark]:
    """The model's answer, in a colour that says whether it is right, and the answer of people.

    Args:
        truth: the answer that most people gave; None if it is unknown.
    """
    if truth is None:
        return [Remark("model", predicted)]
    return [Remark("model", predicted, RIGHT if predicted == truth else WRONG), Remark("people", truth)]


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


def panel(
    picture: Image.Image,
    maps: Mapping[str, np.ndarray],
    box: Box,
    *,
    text: str,
    remarks: Sequence[Remark],
    colormap: str = "inferno",
) -> Image.Image:
    """The picture and one overlay for each map side by side, with the text above and remarks below.

    Args:
        picture: RGB, upright.
        maps: title -> map, (h, w), in order.
        box: part of the picture that the maps cover.
        text: the question or caption; a long one is cut.
        colormap: as in ``overlay``.
    """
    scale = min(TILE / picture.height, WIDEST / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    large = picture.resize(size, Image.Resampling.LANCZOS)
    large_box = scaled(box, scale)
    tiles = {"image": large}
    for title, grid in maps.items():
        tiles[title] = overlay(large, grid, large_box, colormap=colormap)
        mark_strongest(tiles[title], grid, large_box)
    rows, row_height = -(-len(tiles) // PER_ROW), size[1] + CAPTION
    columns = -(-len(tiles) // rows)
    width = 2 * MARGIN + columns * size[0] + (columns - 1) * GAP
    lines = wrap(text, typeface(21, bold=True), width - 2 * MARGIN)
    top = MARGIN + 28 * len(lines) + 10
    bottom = top + rows * row_height
    page = Image.new("RGB", (width, bottom + 40 + MARGIN), PAPER)
    canvas = ImageDraw.Draw(page)
    canvas.multiline_text((MARGIN, MARGIN - 4), "\n".join(lines), fill=INK, font=typeface(21, bold=True), spacing=6)
    for k, (title, tile) in enumerate(tiles.items()):
        left, upper = MARGIN + k % columns * (size[0] + GAP), top + k // columns * row_height
        page.paste(tile, (left, upper))
        canvas.text((left + size[0] / 2, upper + size[1] + 16), title, fill=FAINT, font=typeface(15), anchor="mm")
    write_remarks(canvas, (MARGIN, bottom + 24), remarks)
    return page


def write_remarks(canvas: ImageDraw.ImageDraw, place: tuple[float, float], remarks: Sequence[Remark]) -> None:
    """Write remarks in one line to the right of ``place``, which is vertically in the middle of the line."""
    x, y = place
    for remark in remarks:
        for text, fill, bold in ((f"{remark.about} ", FAINT, False), (remark.words, remark.colour, True)):
            font = typeface(18, bold=bold)
            canvas.text((x, y), text, fill=fill, font=font, anchor="lm")
            x += font.getlength(text)
        x += typeface(18).getlength("     ")


def mark_strongest(picture: Image.Image, grid: np.ndarray, box: Box) -> None:
    """Draw a ring around the centre of every strongest cell into ``picture``."""
    radius = max(3, min(picture.size) // 40)
    canvas = ImageDraw.Draw(picture)
    strongest = cell_centres(box, *grid.shape)[grid == grid.max()]
    for x, y in strongest if len(strongest) < grid.size else []:
        for ring, colour in ((radius + 1, "black"), (radius, "white")):
            canvas.ellipse((x - ring, y - ring, x + ring, y + ring), outline=colour, width=2)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels. After ``MAX_LINES`` it is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            if len(lines) == MAX_LINES:
                lines[-1] += " …"
                break
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)
