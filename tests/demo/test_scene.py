"""Scenes of the demo world: objects apart and distinct, drawn where they are said to be, split by combination."""

import numpy as np
import pytest

from vl_absvit.demo.scene import (
    COLOURS,
    PAPER,
    PLAIN,
    SHAPES,
    TEXTURES,
    Style,
    draw,
    generator,
    sample_pair,
    sample_scene,
    sample_sheet,
    split_of,
)


def combination(scene):
    return tuple(sorted((thing.shape, thing.colour) for thing in scene))


def test_objects_lie_inside_the_image_apart_and_distinct():
    for scene in (sample_scene(generator(7, "test", n)) for n in range(300)):
        assert 3 <= len(scene) <= 5
        assert len(set(combination(scene))) == len(scene)
        covered = np.zeros((96, 96), dtype=int)
        for thing in scene:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1


@pytest.mark.parametrize("style", [PLAIN, PAPER])
def test_drawing_an_object_changes_its_box_and_nothing_else(style):
    for number, name in enumerate((c, s) for c in COLOURS for s in SHAPES):
        colour, shape = name
        cells = [None] * (number % 9) + [(colour, TEXTURES[number % 3], shape)]
        scene = sample_sheet(generator(1, "box", number), cells)
        empty, full = (np.asarray(draw(things, style, generator(2, "", 0)), dtype=int) for things in ((), scene))
        rows, columns = np.nonzero((empty != full).any(axis=-1))
        x0, y0, x1, y1 = scene[0].box
        assert x0 - 1 <= columns.min() and columns.max() <= x1, name
        assert y0 - 1 <= rows.min() and rows.max() <= y1, name
        assert columns.max() - columns.min() > 0.8 * (x1 - x0) - 1, name


def test_a_pair_stands_left_and_right_in_the_middle_row_and_differs_in_colour_and_shape():
    pairs = [sample_pair(generator(7, "pair", n)) for n in range(300)]
    for things in pairs:
        for thing, start in zip(things, (0, 64), strict=True):
            x0, y0, x1, y1 = thing.box
            assert start <= x0 < x1 <= start + 32 and 32 <= y0 < y1 <= 64
        left, right = things
        assert left.colour != right.colour and left.shape != right.shape
    for side in range(2):
        seen = {(things[side].colour, things[side].shape) for things in pairs}
        assert len(seen) == len(COLOURS) * len(SHAPES), "every kind occurs on each side"


def test_a_solid_object_has_its_colour():
    flat = Style(ground=(90, 91), tint=0, noise=0.0, brightness=1.0, outline=0, gap=0.3)
    for colour, rgb in COLOURS.items():
        things = sample_sheet(generator(0, colour, 0), [(colour, "solid", "square")])
        assert draw(things, flat, generator(0, "", 0)).getpixel((things[0].x, things[0].y)) == rgb


def test_each_combination_belongs_to_one_split_and_scenes_obey():
    seen = {split: {combination(sample_scene(generator(0, split, n), split)) for n in range(150)}
            for split in ("train", "val", "test")}  # fmt: skip
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"] and not seen["val"] & seen["test"]
    assert split_of([("ring", "red"), ("star", "blue")]) == split_of([("star", "blue"), ("ring", "red")])
