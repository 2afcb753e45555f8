"""Draw a page about one picture and two questions: the first look, and the second look for each question.

The picture is on the left. Below it is the first look's map, which does not depend on a question. Each question has a
row beside them with its prior mask and the second look's map.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from vl_absvit.looking.geometry import Box, scaled
from vl_absvit.looking.render import (
    FAINT,
    GAP,
    INK,
    MARGIN,
    PAPER,
    Remark,
    mark_strongest,
    overlay,
    typeface,
    wrap,
    write_remarks,
)

SIDE = 240
"""Longer side of a picture and width of a column, in pixels. The page is then as wide as a README shows it."""
LINE, CAPTION = 25, 26
"""Height of a line of text, and of the line below a picture, in pixels."""


class Turned(NamedTuple):
    """A question, the model's answer, and the maps of the second look for it."""

    question: str
    answer: str
    prior_mask: np.ndarray  # (h, w)
    top_down: np.ndarray  # (h, w)


def two_questions(picture: Image.Image, bottom_up: np.ndarray, turned: tuple[Turned, Turned], box: Box) -> Image.Image:
    """Draw the page. Every map is scaled to its own smallest and largest value and has a ring at the largest.

    Args:
        picture: RGB, upright.
        bottom_up: the first look's map, (h, w).
        turned: the two questions; a long text is cut.
        box: part of the picture that the maps cover.
    """
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    large, large_box = picture.resize(size, Image.Resampling.LANCZOS), scaled(box, scale)
    lines = [wrap(turn.question, typeface(18, bold=True), 2 * SIDE + GAP) for turn in turned]
    heading = LINE * (max(map(len, lines)) + 1) + GAP // 2
    step = heading + size[1] + CAPTION + GAP
    page = Image.new("RGB", (2 * MARGIN + 3 * SIDE + 2 * GAP, 2 * MARGIN + 2 * step - GAP), PAPER)
    canvas = ImageDraw.Draw(page)

    def place(column: int, row: int) -> tuple[int, int]:
        return MARGIN + column * (SIDE + GAP), MARGIN + row * step

    def show(column: int, row: int, title: str, grid: np.ndarray | None = None) -> None:
        tile = large
        if grid is not None:
            tile = overlay(large, grid, large_box)
            mark_strongest(tile, grid, large_box)
        x, y = place(column, row)
        page.paste(tile, (x + (SIDE - size[0]) // 2, y + heading))
        below = x + SIDE / 2, y + heading + size[1] + CAPTION / 2
        canvas.text(below, title, fill=FAINT, font=typeface(15), anchor="mm")

    show(0, 0, "image")
    show(0, 1, "first look (bottom-up)", bottom_up)
    for row, turn in enumerate(turned):
        x, y = place(1, row)
        for number, line in enumerate(lines[row]):
            canvas.text((x, y + number * LINE), line, fill=INK, font=typeface(18, bold=True))
        write_remarks(canvas, (x, y + (len(lines[row]) + 0.5) * LINE), [Remark("model", turn.answer)])
        show(1, row, "prior mask" if turn.prior_mask.any() else "prior mask: 0 everywhere", turn.prior_mask)
        show(2, row, "second look (top-down)", turn.top_down)
    return page
