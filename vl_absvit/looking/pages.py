"""The pages of maps that the commands write. Every page is a sheet (``sheet.py``).

Each map is drawn between its own smallest and largest value and has rings at its largest. A box is the part of a
picture that the maps cover. Pictures are RGB and upright.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vl_absvit.looking.geometry import Box, scaled
from vl_absvit.looking.overlay import mark_strongest, overlay, resized
from vl_absvit.looking.sheet import LARGE, SMALL, Group, Remark, Tile, draw_sheet, typeface

RIGHT, WRONG = "#1f7a4d", "#b3372f"
PANEL_HEIGHT, PANEL_WIDTH, PANEL_COLUMNS = 264, 528, 4
"""Largest height and width of a picture of a panel, in pixels, and largest number of pictures side by side."""
PAIR_SIDE = 240
"""Longer side of a picture of two questions, in pixels. The page is then as wide as a README shows it."""
PRIOR_HEIGHT, PRIOR_WIDTH = 168, 252
"""Largest height and width of a picture under several priors, in pixels."""
MAX_PRIORS, MAX_MAPS = 32, 16
"""Largest number of priors, and of maps of each. Viewers do not show larger pages."""
FOUND_SIDE, FOUND_COLUMNS = 240, 2
"""Longer side of a picture that was found, in pixels, and number of those side by side, each with its mask."""
DECODED_SIDE, DECODED_COLUMNS = 192, 3
"""Approximate side of a decoded picture, in pixels, and largest number of priors side by side."""


def remarks_on_answer(predicted: str, truth: str | None) -> list[Remark]:
    """The model's answer, in a colour that says whether it is right, and the answer of people.

    Args:
        truth: the answer that most people gave; None if it is unknown.
    """
    if truth is None:
        return [Remark("model", predicted)]
    return [Remark("model", predicted, RIGHT if predicted == truth else WRONG), Remark("people", truth)]


def panel(
    picture: Image.Image,
    maps: Mapping[str, np.ndarray],
    box: Box,
    *,
    text: str,
    remarks: Sequence[Remark],
    colormap: str = "inferno",
) -> Image.Image:
    """Draw one question or caption with all its maps.

    Args:
        maps: title -> map, (h, w), in order.
        text: the question or caption; a long one is cut.
        colormap: as in ``overlay``.
    """
    tiles = _map_tiles(picture, {"image": None, **maps}, box, (PANEL_WIDTH, PANEL_HEIGHT), colormap)
    rows = -(-len(tiles) // PANEL_COLUMNS)
    columns = -(-len(tiles) // rows)
    first, *others = (tiles[start : start + columns] for start in range(0, len(tiles), columns))
    return draw_sheet([[Group(first, text, remarks)], *([Group(other)] for other in others)])


class QuestionMaps(NamedTuple):
    """A question, the model's answer, and the maps of the second look for it."""

    question: str
    answer: str
    prior_mask: np.ndarray  # (h, w)
    top_down: np.ndarray  # (h, w)


def two_questions(
    picture: Image.Image, bottom_up: np.ndarray, asked: tuple[QuestionMaps, QuestionMaps], box: Box
) -> Image.Image:
    """Draw how two questions turn the second look.

    The picture is on the left. Below it is the first look's map, which does not depend on a question. Each question has
    a row beside them.

    Args:
        bottom_up: the first look's map, (h, w).
    """
    rows = []
    beside: tuple[dict[str, np.ndarray | None], ...] = ({"image": None}, {"first look (bottom-up)": bottom_up})
    for left, (question, answer, prior_mask, top_down) in zip(beside, asked, strict=True):
        maps = {_title_of_mask(prior_mask): prior_mask, "second look (top-down)": top_down}
        first, *second = _map_tiles(picture, left | maps, box, (PAIR_SIDE, PAIR_SIDE))
        rows.append([Group([first]), Group(second, question, [Remark("model", answer)])])
    return draw_sheet(rows, least_width=PAIR_SIDE)


def several_priors(
    picture: Image.Image,
    bottom_up: np.ndarray,
    maps_of: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]],
    box: Box,
    *,
    note: str,
) -> Image.Image:
    """Draw one picture under several priors: the first look, and below it a row for every prior.

    Args:
        bottom_up: the first look's map, (h, w).
        maps_of: prior -> its mask and, by title, the second look's maps, (h, w) each; at most ``MAX_PRIORS`` priors of
            ``MAX_MAPS`` maps.
        note: a line at the foot of the page.
    """
    rows = {"": {"image": None, "bottom-up": bottom_up}}
    rows |= {prior: {_title_of_mask(mask): mask, **second} for prior, (mask, second) in maps_of.items()}
    size = PRIOR_WIDTH, PRIOR_HEIGHT
    groups = [[Group(_map_tiles(picture, maps, box, size), prior)] for prior, maps in rows.items()]
    return draw_sheet(groups, style=SMALL, note=note)


class Stepwise(NamedTuple):
    """A picture and its maps after the steps of a reconstruction."""

    picture: Image.Image
    box: Box
    maps: Mapping[str, np.ndarray]  # title -> (h, w)
    title: str


def steps_page(pictures: Sequence[Stepwise], *, note: str) -> Image.Image:
    """Draw a row for every picture: the picture, and where the model attends after each step.

    Args:
        pictures: at least one.
        note: a line at the foot of the page.
    """
    size = PRIOR_WIDTH, PRIOR_HEIGHT
    rows = [
        [Group(_map_tiles(picture, {"image": None, **maps}, box, size), title)]
        for picture, box, maps, title in pictures
    ]
    return draw_sheet(rows, style=SMALL, note=note)


class Found(NamedTuple):
    """A picture that was found for a text."""

    picture: Image.Image
    box: Box
    prior_mask: np.ndarray | None  # (h, w)
    title: str


def contact_sheet(text: str, found: Sequence[Found]) -> Image.Image:
    """Draw the pictures that were found for a text, the best first, each beside its prior mask.

    Args:
        found: at least one.
    """
    tiles = []
    for picture, box, mask, title in found:
        maps = {_fitting(title): None} | ({} if mask is None else {_title_of_mask(mask): mask})
        tiles.append(_map_tiles(picture, maps, box, (FOUND_SIDE, FOUND_SIDE)))
    rows = [sum(tiles[start : start + FOUND_COLUMNS], []) for start in range(0, len(tiles), FOUND_COLUMNS)]
    groups = [[Group(row, "" if number else text)] for number, row in enumerate(rows)]
    return draw_sheet(groups, least_width=FOUND_SIDE)


class DecodedPrior(NamedTuple):
    """The feedback of one prior, as pixels."""

    title: str
    top_down: np.ndarray  # (h, w, 3), what it adds
    sum: np.ndarray  # (h, w, 3), bottom-up with it


def decoded_page(
    image: np.ndarray, bottom_up: np.ndarray, priors: Sequence[DecodedPrior], *, scale: float, note: str
) -> Image.Image:
    """Draw a picture, its decoded z_0, and for every prior the feedback and the sum.

    Args:
        image: as the model sees it, (h, w, 3), in [0, 1].
        bottom_up: (h, w, 3).
        scale: factor of all top-down pictures, which are drawn as changes of mid-grey.
        note: a line at the foot of the page.
    """
    groups = []
    for title, top_down, both in priors:
        changes = f"top-down x {scale:.3g}" if top_down.any() else "top-down: 0 everywhere"
        groups.append(Group([_pixel_tile(0.5 + scale * top_down, changes), _pixel_tile(both, "sum")], title))
    left = Group([_pixel_tile(image, "image"), _pixel_tile(bottom_up, "bottom-up")])
    rows = [groups[start : start + DECODED_COLUMNS] for start in range(0, len(groups), DECODED_COLUMNS)]
    below = Group([Tile(None), Tile(None)])
    return draw_sheet([[below if number else left, *row] for number, row in enumerate(rows)], style=SMALL, note=note)


def _map_tiles(
    picture: Image.Image,
    maps: Mapping[str, np.ndarray | None],
    box: Box,
    most: tuple[int, int],
    colormap: str = "inferno",
) -> list[Tile]:
    """The picture under each map, by title, or as it is where there is none; at most so wide and high."""
    scale = min(most[0] / picture.width, most[1] / picture.height)
    large, box = resized(picture, scale), scaled(box, scale)
    tiles = []
    for title, grid in maps.items():
        drawn = large if grid is None else overlay(large, grid, box, colormap=colormap)
        if grid is not None:
            mark_strongest(drawn, grid, box)
        tiles.append(Tile(drawn, title))
    return tiles


def _fitting(title: str) -> str:
    """A title that is as wide as a picture that was found; names are told apart by their ends."""
    font, begin, end = typeface(LARGE.title), title[: len(title) // 2], title[len(title) // 2 :]
    while font.getlength(title) > FOUND_SIDE:
        begin, end = (begin[:-1], end) if len(begin) > len(end) else (begin, end[1:])
        title = f"{begin}…{end}"
    return title


def _title_of_mask(mask: np.ndarray) -> str:
    return "prior mask" if mask.any() else "prior mask: 0 everywhere"


def _pixel_tile(pixels: np.ndarray, title: str) -> Tile:
    """Pixels of [0, 1], (h, w, 3), each drawn as a square of whole pixels."""
    side = max(1, round(DECODED_SIDE / len(pixels))) * len(pixels)
    small = Image.fromarray(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8))
    return Tile(small.resize((side, side), Image.Resampling.NEAREST), title)
