"""RandAugment is METER's to the bit, but for small pictures, which are shifted less; nothing is ever mirrored."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps

from benchmarks import meter_pictures
from benchmarks.pictures import jpeg, make_picture
from vl_absvit.data.rand_augment import MOVES, OPERATIONS, Operation, augment, draw, equalized, move, smooth, stretched
from vl_absvit.data.transforms import image_transform

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """Just large enough to be shifted as far as METER shifts."""
    return make_picture((407, 400), np.random.default_rng(0))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(40, 180, (height, width, 3), dtype=np.uint8))


def same(ours: Image.Image, theirs: Image.Image) -> bool:
    return np.array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_meters_pixels(name, photograph):
    theirs, low, high = meter_pictures.OPERATIONS[name]
    ways = set()
    for seed in range(4 if name in MOVES else 1):
        random.seed(seed)
        expected = theirs(photograph, 0.3 * (high - low) + low)
        random.seed(seed)
        sign = -1 if name in MOVES and random.random() > 0.5 else 1
        assert same(augment(photograph, [Operation(name, sign)]), expected)
        ways.add(sign)
    assert ways == ({1, -1} if name in MOVES else {1})


def test_a_file_becomes_meters_tensor_on_the_same_draws(photograph):
    content, ours = jpeg(photograph), image_transform(64, MEAN, STD, "randaugment")
    drawn = set()
    for seed in range(10):
        for alpha in (False, True)[: 2 if seed < 2 else 1]:
            theirs = meter_pictures.meter_pictures(64, MEAN, STD, alpha)
            random.seed(seed)
            expected = theirs(content)
            random.seed(seed)
            assert torch.equal(ours(ours.decode(content)), expected)
        random.seed(seed)
        drawn |= {operation.name for operation in draw()}
    assert len(drawn) > 8


def test_draws_are_even_independent_and_go_either_way():
    random.seed(0)
    pairs = [draw() for _ in range(4000)]
    counts = np.unique([operation.name for pair in pairs for operation in pair], return_counts=True)[1]
    assert len(counts) == 14 and np.all(abs(counts / 8000 - 1 / 14) < 0.015)
    assert abs(np.mean([first.name == second.name for first, second in pairs]) - 1 / 14) < 0.015
    assert abs(np.mean([each.sign for pair in pairs for each in pair if each.name in MOVES])) < 0.06
    assert all(each.sign == 1 for pair in pairs for each in pair if each.name not in MOVES)


@pytest.mark.parametrize("side, largest", [(32, 2.4), (96, 7.2), (399, 29.925), (400, 30), (2000, 30)])
def test_a_small_picture_is_not_shifted_out_of_its_frame(side, largest):
    _, _, right, *_, down = move(Operation("TranslateX"), (side, 2 * side))
    assert (right, down) == (pytest.approx(largest), 0)
    _, _, right, *_, down = move(Operation("TranslateY", -1), (2 * side, side))
    assert (right, down) == (0, pytest.approx(-largest))


def test_a_reduced_picture_is_shifted_by_fewer_pixels():
    assert move(Operation("TranslateX"), (240, 320), reduced_by=2)[2] == 15
    assert move(Operation("TranslateX"), (100, 100), reduced_by=2)[2] == pytest.approx(7.5)


def test_nothing_is_mirrored():
    """A picture that is dark on the left stays so, but for the operations that invert or shift it on purpose."""
    half = Image.new("RGB", (100, 60), "black")
    half.paste("white", (50, 0, 100, 60))
    for name in set(OPERATIONS) - {"Solarize", "SolarizeAdd", "TranslateX", "TranslateY"}:
        pixels = np.asarray(augment(half, [Operation(name)]), dtype=float)
        assert pixels[:, :40].mean() < pixels[:, 60:].mean(), name


@pytest.mark.parametrize("histogram", ["one value", "two values", "many", "few pixels"])
def test_tables_of_values_are_pillows(histogram):
    picture = {
        "one value": Image.new("L", (20, 20), 77),
        "two values": Image.fromarray(np.array([[3, 200, 200]], dtype=np.uint8)),
        "many": noise(60, 40).getchannel(0),
        "few pixels": Image.fromarray(np.arange(20, 60, dtype=np.uint8).reshape(4, 10)),
    }[histogram]
    counts = np.array(picture.histogram())
    assert same(picture.point(stretched(counts).tolist()), ImageOps.autocontrast(picture))
    assert same(picture.point(equalized(counts).tolist()), ImageOps.equalize(picture))


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 7), (31, 17)])
def test_smoothing_is_pillows_filter(size):
    for picture in (noise(*size), Image.new("RGB", size, (255, 0, 1))):
        assert same(smooth(picture), picture.filter(ImageFilter.SMOOTH))
