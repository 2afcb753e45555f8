"""Evaluation transforms are timm's to the bit; augmentation repeats with its seed and disturbs nobody else's."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from vl_absvit.data.transforms import image_transform, seeded, transformed

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


@pytest.mark.parametrize("augmentation", ["randaugment", "randaugment_fast"])
def test_augmentation_repeats_with_its_seed_and_changes_with_it(picture, augmentation):
    transform, content = image_transform(32, MEAN, STD, augmentation), io.BytesIO()
    picture.save(content, "PNG")
    assert transform.is_random

    def augmented(*seed):
        with seeded(*seed):
            return transform(transform.decode(content.getvalue()))

    assert torch.equal(augmented(0, 1, 42), augmented(0, 1, 42))
    different = [augmented(*seed) for seed in ((0, 1, 42), (1, 0, 42), (0, 2, 42), (0, 1, 43))]
    assert len({tensor.sum().item() for tensor in different}) > 1
    assert augmented(3).shape == (3, 32, 32)


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


def test_pictures_are_augmented_together_as_each_with_its_seed_alone(picture):
    transform = image_transform(32, MEAN, STD, "randaugment")
    seeds, state = [(0, 1, number) for number in range(8)], random.getstate()
    alone = []
    for seed in seeds:
        with seeded(*seed):
            alone.append(transform(picture))
    together = transformed(transform, [picture] * 8, seeds)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, alone, strict=True))
    assert any(not torch.equal(alone[0], other) for other in alone) and random.getstate() == state
