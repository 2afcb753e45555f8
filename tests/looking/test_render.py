"""Overlays are bright where the map is strong, and panels are pictures of a sensible size."""

import numpy as np
import pytest
from PIL import Image

from vl_absvit.looking.render import overlay, panel, remarks_on_answer, spread


def test_a_spread_map_keeps_its_cells_values_at_their_centres():
    grid = np.array([[0.0, 1.0], [2.0, 4.0]])
    heat = spread(grid, (0, 0, 40, 40), (40, 40))
    assert heat.shape == (40, 40)
    assert [round(float(heat[y, x]), 1) for y, x in [(2, 2), (2, 37), (37, 2), (37, 37)]] == [0.0, 0.2, 0.5, 1.0]


def test_a_spread_map_is_zero_outside_its_box_and_within_bounds():
    grid = np.random.default_rng(0).random((5, 5))
    heat = spread(grid, (10.2, 0.0, 29.7, 20.0), (40, 20))
    assert heat[:, :10].max() == 0 and heat[:, 30:].max() == 0 and heat[:, 10:30].max() > 0.9
    assert heat.min() >= 0 and heat.max() <= 1


def test_a_map_without_differences_is_shown_as_weak_everywhere():
    assert not spread(np.full((3, 3), 7.0), (0, 0, 9, 9), (9, 9)).any()


def test_the_overlay_is_brightest_at_the_strongest_cell_and_strength_0_is_the_picture():
    picture = Image.new("RGB", (60, 60), (90, 90, 90))
    grid = np.zeros((3, 3))
    grid[2, 0] = 1
    light = np.asarray(overlay(picture, grid, (0, 0, 60, 60)), dtype=float).sum(axis=-1)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert y >= 40 and x < 20 and light[10, 50] < light[50, 10] / 2
    assert np.array_equal(overlay(picture, grid, (0, 0, 60, 60), strength=0.0), picture)


@pytest.mark.parametrize("size", [(96, 96), (640, 427), (3, 200), (200, 2)])
@pytest.mark.parametrize("question", ["What?", "why " * 10_000, "x" * 10_000, "", "\0\x1b[31m\u202e 🦊\nWhat?"])
def test_a_panel_has_a_tile_per_map_whatever_the_picture_and_the_question(size, question):
    picture = Image.new("RGB", size, "red")
    maps = {"bottom-up": np.eye(4), "prior mask": np.zeros((4, 4))}
    made = panel(picture, maps, (0, 0, *size), text=question, remarks=remarks_on_answer("red", None))
    assert 3 * min(size[0] * 264 / size[1], 528) <= made.width < 3 * 528 + 100
    assert 100 < made.height < 264 + 250


@pytest.mark.parametrize(("maps", "columns", "rows"), [(1, 2, 1), (3, 4, 1), (4, 3, 2), (7, 4, 2), (8, 3, 3)])
def test_at_most_four_pictures_are_side_by_side_and_rows_are_alike(maps, columns, rows):
    grids = {str(k): np.eye(4) for k in range(maps)}
    made = panel(
        Image.new("RGB", (264, 264)), grids, (0, 0, 264, 264), text="?", remarks=remarks_on_answer("red", "red")
    )
    one = panel(Image.new("RGB", (264, 264)), {}, (0, 0, 264, 264), text="?", remarks=remarks_on_answer("red", "red"))
    assert made.width == one.width + (columns - 1) * (264 + 14)
    assert made.height == one.height + (rows - 1) * (264 + 32)


def test_a_panel_is_drawn_in_the_colours_asked_for():
    def saturation(**colours):
        grids = {"a": np.eye(4)}
        picture = Image.new("RGB", (96, 96), (90, 90, 90))
        made = panel(picture, grids, (0, 0, 96, 96), text="", remarks=[], **colours)
        tile = np.asarray(made, dtype=int)[60:300, 310:550]
        return (tile.max(axis=-1) - tile.min(axis=-1)).mean()

    assert saturation(colormap="gray") < 1 < 20 < saturation()
