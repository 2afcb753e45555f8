"""Corruptions made as pictures are read: the published functions' effect, one draw per image, any size."""

import argparse

import numpy as np
import pytest
from PIL import Image

from vl_absvit.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, add_corruption_options, corruptions_of
from vl_absvit.data.transforms import image_transform, seeded
from vl_absvit.errors import InputError
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS

pytest.importorskip("imagecorruptions", exc_type=ImportError)

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def picture(width: int, height: int) -> Image.Image:
    """Soft shapes on a gradient, as photographs have them."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 3 * channel)) * np.cos(y / (7 + channel)) for channel in range(3)]
    return Image.fromarray((128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8))


def corrupted(name: str, severity: int, original: Image.Image, *seed: int) -> np.ndarray:
    with seeded(*seed):
        made = Corruption(name, severity)(original)
    assert made.size == original.size and made.mode == "RGB"
    return np.asarray(made).astype(float)


def test_the_names_are_imagenet_cs_in_its_order():
    assert list(ALEXNET_ERRORS) == list(CORRUPTIONS)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_depends_on_the_seed_alone_and_grows_with_the_severity(name):
    original = picture(120, 90)
    assert np.array_equal(corrupted(name, 3, original, 1, 2), corrupted(name, 3, original, 1, 2))
    distances = [
        np.mean([np.abs(corrupted(name, severity, original, seed) - np.asarray(original)).mean() for seed in range(6)])
        for severity in (1, 5)
    ]
    assert 0 < distances[0] < distances[1]


@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name.endswith("noise") or name in ("glass_blur", "snow", "frost", "fog")]
)
def test_another_image_is_corrupted_by_another_draw(name):
    original = picture(64, 64)
    assert not np.array_equal(corrupted(name, 3, original, 0, 1), corrupted(name, 3, original, 0, 2))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (67, 101), (224, 33)])
def test_pictures_of_any_size_and_shape_are_corrupted(name, size):
    assert np.isfinite(corrupted(name, 5, picture(*size), 0)).all()


@pytest.mark.parametrize(("severity", "scale"), [(1, 0.08), (2, 0.12), (3, 0.18), (4, 0.26), (5, 0.38)])
def test_gaussian_noise_has_the_papers_spread(severity, scale):
    """The published standard deviations, of pixel values in [0, 1]; grey, so that little is cut off."""
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noise = (corrupted("gaussian_noise", severity, grey, 0) - 128) / 255
    inside = np.clip(np.random.default_rng(1).normal(0, scale, noise.shape), -128 / 255, 127 / 255)
    assert noise.std() == pytest.approx(inside.std(), rel=0.02)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.03), (2, 0.06), (3, 0.09), (4, 0.17), (5, 0.27)])
def test_impulse_noise_hits_the_papers_share_of_values(severity, share):
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    hit = corrupted("impulse_noise", severity, grey, 0) != 128
    assert hit.mean() == pytest.approx(share, rel=0.05)


def test_a_picture_is_cut_before_it_is_corrupted():
    """Pixelate at severity 5 leaves a quarter of the sides: blocks of four pixels in the model's input."""
    transform = image_transform(64, MEAN, STD, crop_pct=0.5, corrupt=Corruption("pixelate", 5))
    assert transform.is_random and transform.resized_to == 128
    with seeded(0):
        values = transform(picture(200, 180))
    blocks = values.unfold(1, 4, 4).unfold(2, 4, 4)
    assert (blocks == blocks[..., :1, :1]).all() and values.std() > 0.01


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(InputError, match="40 x 31 is too small to be corrupted"):
        Corruption("fog", 1)(picture(40, 31))


@pytest.mark.parametrize(
    ("several", "words", "expected"),
    [
        (True, "--corrupt fog snow --severity 5 1", [("snow", 1), ("snow", 5), ("fog", 1), ("fog", 5)]),
        (True, "--corrupt all", [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]),
        (False, "--corrupt fog", [("fog", 3)]),
        (False, "--corrupt fog --severity 2", [("fog", 2)]),
        (False, "", []),
    ],
)
def test_options_name_the_conditions(several, words, expected):
    parser = argparse.ArgumentParser()
    add_corruption_options(parser, several)
    made = corruptions_of(parser, parser.parse_args(words.split()))
    assert [(one.name, one.severity) for one in made] == expected
