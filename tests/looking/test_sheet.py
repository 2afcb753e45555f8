"""The sheet of priors and strengths: a tile per map, whatever the picture, the names and their number."""

import warnings

import numpy as np
import pytest
from PIL import Image

from vl_absvit.looking.render import GAP, MARGIN
from vl_absvit.looking.sheet import HEADING, MAX_COLUMNS, MAX_ROWS, TILE, sheet

NOTE = "A note."


def peak(row, column):
    grid = np.zeros((4, 4))
    grid[row, column] = 1
    return grid


def pixels(page):
    return np.asarray(page, dtype=float).mean(axis=-1)


def test_every_tile_shows_its_own_map_at_its_own_place():
    picture = Image.new("RGB", (96, 96), (90, 90, 90))
    rows = {name: {"prior mask": peak(0, 0), "alpha 1": peak(0, 3), "alpha 2": peak(3, 0)} for name in "ab"}
    page = pixels(sheet(picture, peak(3, 3), rows, (0, 0, 96, 96), note=NOTE))
    step = HEADING + TILE + 24

    def brightest_corner(row, column):
        top, left = MARGIN + row * step, MARGIN + column * (TILE + GAP)
        tile = page[top : top + TILE, left : left + TILE]
        corners = {(y, x): tile[y * 130 : y * 130 + 38, x * 130 : x * 130 + 38].mean() for y in (0, 1) for x in (0, 1)}
        return max(corners, key=corners.get)

    assert brightest_corner(0, 1) == (1, 1)
    for row in (1, 2):
        assert [brightest_corner(row, column) for column in range(3)] == [(0, 0), (0, 1), (1, 0)]
    assert page[MARGIN : MARGIN + TILE, MARGIN + 2 * (TILE + GAP) :].min() == 255, "no third tile in the first row"
    assert page[MARGIN + 9, MARGIN + 9] == 90, "the picture itself has no map"


def test_a_map_without_peak_has_no_ring():
    picture = Image.new("RGB", (96, 96), (90, 90, 90))
    flat, peaked = (
        pixels(sheet(picture, grid, {"a": {"prior mask": grid}}, (0, 0, 96, 96), note=NOTE))[MARGIN : MARGIN + TILE]
        for grid in (np.zeros((4, 4)), peak(1, 1))
    )
    ring = slice(MARGIN + TILE + GAP, MARGIN + TILE + GAP + TILE)
    assert (flat[:, ring] == 255).sum() == 0 and (peaked[:, ring] == 255).sum() > 0


@pytest.mark.parametrize("size", [(640, 427), (3, 200), (200, 2)])
@pytest.mark.parametrize("name", ["why " * 1000, "x" * 1000, "$\\frac$", "\n", "赤い星"])
def test_any_picture_and_any_name_have_room(size, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = sheet(Image.new("RGB", size), np.eye(4), {name: {"prior mask": np.eye(4)}}, (0, 0, *size), note=NOTE)
    assert page.mode == "RGB" and 2 * MARGIN < page.width < 700 and page.height < 600


@pytest.mark.slow
def test_the_largest_sheet_can_be_drawn():
    tiles = {f"alpha {alpha}": np.eye(2) for alpha in range(MAX_COLUMNS)}
    rows = {f"prior {row}": tiles if row == 0 else {"prior mask": np.eye(2)} for row in range(MAX_ROWS)}
    page = sheet(Image.new("RGB", (200, 100)), np.eye(2), rows, (0, 0, 200, 100), note=NOTE)
    assert max(page.size) < 2**13
