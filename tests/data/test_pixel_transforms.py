"""Pictures and labels stay together: sizes are mmcv's, labels keep their classes, what is added is void."""

import colorsys
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from vl_absvit.data.pixel_transforms import (
    EvaluationPixels,
    TrainingPixels,
    distort,
    draw_cut,
    resize_label,
    resized_size,
    saturate,
)
from vl_absvit.data.transforms import Normalise, seeded

PLAIN = Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def training(crop=(24, 40), longest=64, shortest=32, is_random=True) -> TrainingPixels:
    return TrainingPixels(longest, shortest, crop, PLAIN, is_random)


def test_sizes_are_mmcvs(golden):
    rows = json.loads((golden / "segmentation/resize_shapes.json").read_text())["rows"]
    assert len(rows) > 20
    for height, width, (longest, shortest), new_height, new_width, _ in rows:
        assert resized_size((height, width), longest, shortest) == (new_height, new_width)


def test_sizes_by_hand():
    assert resized_size((375, 500), 2048, 512) == (512, 683) and resized_size((500, 375), 2048, 512) == (683, 512)
    assert resized_size((375, 500), 2048, 512, ratio=0.5) == (256, 341)
    assert resized_size((1, 2000), 2048, 512) == (1, 2048), "no side vanishes"


def test_labels_take_the_nearest_pixel_above_and_left():
    row = torch.arange(10, dtype=torch.uint8)
    assert resize_label(row[None], (1, 4)).tolist() == [[0, 2, 5, 7]]
    assert set(resize_label(torch.tensor([[3, 255], [7, 3]], dtype=torch.uint8), (9, 5)).unique().tolist()) == {
        3,
        7,
        255,
    }


def shaded(label: np.ndarray) -> Image.Image:
    """A picture whose shades are its classes."""
    return Image.fromarray(np.stack([label * 100] * 3, axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (20, 80)])
def test_the_label_is_that_of_the_picture(size, monkeypatch):
    monkeypatch.setattr("vl_absvit.data.pixel_transforms.distort", lambda values: values)
    label = np.zeros(size, np.uint8)
    label[: size[0] // 2], label[:, size[1] // 3 :] = 1, label[:, size[1] // 3 :] + 1
    agree, void = [], []
    for number in range(12):
        with seeded(number):
            image, classes = training()(shaded(label), label)
        assert image.shape == (3, 24, 40) and classes.shape == (24, 40) and classes.dtype == torch.uint8
        valid = classes != 255
        agree.append(((image[0] * 255 / 100).round()[valid] == classes[valid]).float().mean().item())
        void.append((~valid).float().mean().item())
        assert not image[:, ~valid].any(), "the mean colour, which is 0 once normalised"
    assert min(agree) > 0.8, "all but the borders, where shades are interpolated"
    assert max(void) > 0 and min(void) == 0


def test_a_picture_depends_on_its_seed_alone():
    draw = np.random.default_rng(0)
    picture, label = Image.fromarray(draw.integers(256, size=(40, 50, 3), dtype=np.uint8)), np.zeros((40, 50), np.uint8)

    def made(*seed):
        with seeded(*seed):
            return training()(picture, label)

    assert all(a.equal(b) for a, b in zip(made(1, 2), made(1, 2), strict=True))
    assert not made(1, 2)[0].equal(made(1, 3)[0])


def test_without_augmentation_the_middle_is_cut_out():
    draw = np.random.default_rng(0)
    label = draw.integers(3, size=(32, 64)).astype(np.uint8)
    image, classes = training(is_random=False)(shaded(label), label)
    np.testing.assert_array_equal(classes, label[4:28, 12:52])
    np.testing.assert_array_equal((image[0] * 2.55).round(), label[4:28, 12:52])


def test_a_cut_that_one_class_fills_is_drawn_again():
    label = torch.zeros(40, 400, dtype=torch.uint8)
    label[:, 200:] = 1
    mixed = 0
    for number in range(40):
        random.seed(number)
        top, left = draw_cut(label, (40, 40))
        share = (label[:, left : left + 40] == 1).float().mean().item()
        assert top == 0
        mixed += 0.25 < share < 0.75
    assert mixed > 9, "of 40; 18 are expected, and 2 without drawing again"


def test_void_does_not_fill_a_cut():
    label = torch.full((8, 8), 255, dtype=torch.uint8)
    assert draw_cut(label, (8, 8)) == (0, 0)


def test_saturation_is_that_of_hsv():
    colours = torch.rand(3, 5, 7, dtype=torch.float64)
    for factor in (0.5, 1.0, 1.5):
        changed = saturate(colours, factor)
        for row, column in ((0, 0), (4, 6), (2, 3)):
            hue, saturation, value = colorsys.rgb_to_hsv(*colours[:, row, column].tolist())
            expected = colorsys.hsv_to_rgb(hue, min(1, factor * saturation), value)
            assert changed[:, row, column].tolist() == pytest.approx(expected)
    grey = torch.full((3, 2, 2), 0.5)
    assert saturate(grey, 1.5).equal(grey) and not saturate(torch.zeros(3, 2, 2), 1.5).any()


def test_colours_stay_in_range_and_half_of_the_pictures_keep_each_part():
    values = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
    same = 0
    for number in range(64):
        random.seed(number)
        changed = distort(values)
        assert changed.min() >= -1e-3 and changed.max() <= 255.001
        same += torch.allclose(changed, values.float(), atol=1e-3)
    assert 1 <= same <= 12, "a sixteenth of 64 is expected"


def test_evaluation_resizes_and_normalises():
    picture = Image.new("RGB", (50, 25), (255, 0, 0))
    image = EvaluationPixels(64, 64, Normalise((0.5,) * 3, (0.5,) * 3))(picture, ratio=0.5)
    assert image.shape == (3, 16, 32) and image[:, 3, 3].tolist() == [1, -1, -1]
