"""Evaluation transforms are timm's to the bit; augmentation repeats with its seed and disturbs nobody else's."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from vl_absvit.data.transforms import image_transform, seeded

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [32, 64])
def test_evaluation_is_timms_transform_to_the_bit(picture, size):
    theirs = create_transform(size, interpolation="bicubic", mean=MEAN, std=STD, crop_pct=1.0)
    assert torch.equal(image_transform(size, MEAN, STD)(picture), theirs(picture))


def test_training_without_augmentation_is_evaluation(picture):
    assert torch.equal(image_transform(32, MEAN, STD, "none")(picture), image_transform(32, MEAN, STD)(picture))
    assert not image_transform(32, MEAN, STD, "none").is_random


def test_augmentation_repeats_with_its_seed_and_changes_with_it(picture):
    transform = image_transform(32, MEAN, STD, "randaugment")
    assert transform.is_random

    def augmented(*seed):
        with seeded(*seed):
            return transform(picture)

    assert torch.equal(augmented(0, 1, 42), augmented(0, 1, 42))
    different = [augmented(*seed) for seed in ((0, 1, 42), (1, 0, 42), (0, 2, 42), (0, 1, 43))]
    assert len({tensor.sum().item() for tensor in different}) > 1
    assert augmented(3).shape == (3, 32, 32)


def test_augmentation_never_mirrors(picture):
    """A picture that is dark on the left stays so, but for the operations that invert or shift it on purpose."""
    half = Image.new("RGB", (100, 60), "black")
    half.paste("white", (50, 0, 100, 60))
    transform = image_transform(60, (0.5,) * 3, (1.0,) * 3, "randaugment")
    for operation in transform.steps.transforms[0].operations(100, 60).ops:
        if operation.name in ("Solarize", "SolarizeAdd", "TranslateX", "TranslateY"):
            continue
        pixels = np.asarray(operation(half.copy()), dtype=float)
        assert pixels[:, :40].mean() < pixels[:, 60:].mean(), operation.name


def test_the_operations_are_as_strong_as_meters():
    operations = image_transform(8, MEAN, STD, "randaugment").steps.transforms[0].operations(640, 480).ops
    assert len(operations) == 14 and all(operation.prob == 1 for operation in operations)
    levels = {op.name: op.level_fn(op.magnitude, op.hparams) for op in operations if op.level_fn}
    # Magnitude 9 of 30: 9 of 30 degrees, 30 of 100 pixels, 0.09 of 0.3 of shear, 0.1 + 0.3 * 1.8 of contrast.
    assert abs(levels["Rotate"][0]) == pytest.approx(9)
    assert abs(levels["TranslateX"][0]) == pytest.approx(30)
    assert abs(levels["ShearY"][0]) == pytest.approx(0.09)
    assert levels["Contrast"][0] == pytest.approx(0.64)
    assert levels["SolarizeAdd"][0] == 33


@pytest.mark.parametrize("side, largest", [(32, 2.4), (96, 7.2), (399, 29.925), (400, 30), (2000, 30)])
def test_a_small_picture_is_not_shifted_out_of_its_frame(side, largest):
    operations = image_transform(8, MEAN, STD, "randaugment").steps.transforms[0].operations(side, 2 * side).ops
    shifts = [op.level_fn(op.magnitude, op.hparams) for op in operations if op.name.startswith("Translate")]
    assert [abs(pixels) for (pixels,) in shifts] == pytest.approx([largest, largest])


def test_a_seed_leaves_the_global_generators_where_they_were():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    expected = [draw(), draw()]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    drawn = [draw()]
    with seeded(1, 2):
        inside = draw()
    drawn.append(draw())
    with pytest.raises(RuntimeError), seeded(1, 2):
        assert draw() == inside
        raise RuntimeError
    assert drawn == expected and inside not in expected
