"""Overlays are bright where the map is strong, and a ring marks the strongest place."""

import numpy as np
from PIL import Image

from vl_absvit.looking.overlay import mark_strongest, overlay, spread


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


def test_a_ring_is_around_every_strongest_cell_and_around_none_where_all_are_the_same():
    def white_pixels(grid):
        picture = Image.new("RGB", (80, 80), "gray")
        mark_strongest(picture, np.array(grid), (0, 0, 80, 80))
        return (np.asarray(picture) == 255).all(axis=-1)

    one, two = white_pixels([[0, 1], [0, 0]]), white_pixels([[0, 1], [1, 0]])
    assert one[:40, 40:].any() and not one[40:].any() and not one[:, :40].any()
    assert two[:40, 40:].any() and two[40:, :40].any() and not two[:40, :40].any()
    assert not white_pixels([[1, 1], [1, 1]]).any()
