"""The fast RandAugment sees what METER's would have shown, within stated bounds, operation by operation."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.pictures import jpeg, make_picture
from vl_absvit.data.fast_augment import change, see
from vl_absvit.data.rand_augment import MOVES, OPERATIONS, SHIFTS, Operation, augment
from vl_absvit.data.rgb import Reduced, decode_reduced, decode_rgb
from vl_absvit.data.transforms import image_transform

SIDE = 112
EXACT = image_transform(SIDE, (0,) * 3, (1 / 255,) * 3)
TURNS = [name for name in MOVES if name not in SHIFTS]


@pytest.fixture(scope="module")
def content() -> bytes:
    """A JPEG file that is decoded at half its size."""
    return jpeg(make_picture((320, 240), np.random.default_rng(0)))


@pytest.fixture(scope="module")
def decoded(content) -> tuple[Image.Image, Reduced]:
    """Whole and reduced."""
    reduced = decode_reduced(content, SIDE)
    assert reduced.by == 2 and reduced.picture.size == (160, 120)
    return decode_rgb(content), reduced


def both(decoded: tuple[Image.Image, Reduced], *names: str, sign: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """What METER's and what the fast operations show, (S, S, 3) each in [0, 255]."""
    operations = [Operation(name, sign if name in MOVES else 1) for name in names]
    exact = EXACT(augment(decoded[0], operations)).round()
    return exact.permute(1, 2, 0).numpy(), see(change(decoded[1], operations), SIDE, SIDE).permute(1, 2, 0).numpy()


def edges(pixels: np.ndarray) -> float:
    """Root of the mean square of the Laplacian: how much fine detail there is."""
    laplacian = 4 * pixels[1:-1, 1:-1] - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]
    return float(np.sqrt((laplacian**2).mean()))


@pytest.mark.parametrize("name, sign", [*((name, 1) for name in OPERATIONS), *((name, -1) for name in MOVES)])
def test_every_operation_leaves_means_spreads_and_detail_as_they_should_be(name, sign, decoded):
    exact, fast = both(decoded, name, sign=sign)
    assert np.abs(exact.mean((0, 1)) - fast.mean((0, 1))).max() < 1.5  # of 255, in every channel
    assert np.abs(exact.std((0, 1)) / fast.std((0, 1)) - 1).max() < 0.06
    assert 0.8 < edges(fast) / edges(exact) < 1.3
    cut = name in ("Posterize", "Solarize")  # small differences become large ones where they cut between values
    assert np.corrcoef(exact.ravel(), fast.ravel())[0, 1] > (0.96 if cut else 0.994)


@pytest.mark.parametrize("first", ["Rotate", "ShearX", "TranslateY"])
@pytest.mark.parametrize(
    "second", ["AutoContrast", "Equalize", "Solarize", "SolarizeAdd", "Contrast", "Color", "ShearY"]
)
def test_pairs_show_the_same_with_what_lies_outside(first, second, decoded):
    exact, fast = both(decoded, first, second)
    assert np.abs(exact.mean((0, 1)) - fast.mean((0, 1))).max() < 2.5
    assert np.corrcoef(exact.ravel(), fast.ravel())[0, 1] > 0.96
    exact, fast = both(decoded, second, first)
    assert np.corrcoef(exact.ravel(), fast.ravel())[0, 1] > 0.96


def test_what_lies_outside_has_the_colour_that_later_operations_give_to_black(decoded):
    white = tuple(Image.new("RGB", size, "white") for size in ((320, 240), (160, 120)))
    for name, outside in (("SolarizeAdd", 33), ("Solarize", 0), ("Color", 0)):
        for turn in ("Rotate", "ShearY"):
            exact, fast = both((white[0], Reduced(white[1], 2)), turn, name)
            seen = [min(set(np.unique(each.round())), key=lambda value: abs(value - outside)) for each in (exact, fast)]
            assert seen == [outside, outside]


@pytest.mark.parametrize("names", [(a, b) for a in MOVES for b in MOVES])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_spot_goes_where_meters_goes(names, sign):
    whole = Image.new("RGB", (320, 240))
    whole.paste("white", (172, 80, 188, 96))
    decoded = whole, Reduced(whole.reduce(2), 2)
    places = np.arange(SIDE)
    centres = [
        [(each[..., 0].sum(axis) * places).sum() / each[..., 0].sum() for axis in (0, 1)]
        for each in both(decoded, *names, sign=sign)
    ]
    assert np.abs(np.subtract(*centres)).max() < 0.4, centres  # pixels of the model's input


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in TURNS])
def test_a_picture_that_is_neither_reduced_nor_turned_is_meters_within_a_rounding(name):
    picture = make_picture((150, 120), np.random.default_rng(1))
    exact, fast = both((picture, Reduced(picture, 1)), name)
    assert np.abs(exact - fast).max() <= 1 and (exact != fast).mean() < 0.02


def test_equal_seeds_draw_what_meter_draws(content):
    fast, exact = (image_transform(SIDE, (0.5,) * 3, (0.25,) * 3, name) for name in ("randaugment_fast", "randaugment"))
    assert fast.is_random and fast.resized_to == exact.resized_to == SIDE
    for seed in range(10):
        seen = []
        for transform in (fast, exact):
            random.seed(seed)
            seen.append(transform(transform.decode(content)).flatten())
        assert torch.corrcoef(torch.stack(seen))[0, 1] > 0.93


def test_the_middle_is_cut_out_of_what_was_resized(content):
    transform = image_transform(100, (0,) * 3, (1 / 255,) * 3, crop_pct=0.8)
    reduced = decode_reduced(content, 125)
    assert reduced.by == 1
    fast = see(change(reduced, []), transform.resized_to, 100)
    assert transform.resized_to == 125 and (fast - transform(reduced.picture).round()).abs().max() <= 1
