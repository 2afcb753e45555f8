"""Pictures to tensors, and random numbers that depend on a seed alone."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import RandAugment, rand_augment_ops
from torch import Tensor
from torchvision.transforms import Resize

# The fourteen operations of ViLT and METER. Inversion, cut-out and mirroring are left out, because texts speak of
# colours, of small things and of left and right.
_OPERATIONS = (
    "AutoContrast Equalize Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness ShearX ShearY "
    "TranslateX TranslateY"
).split()
# METER's magnitude 9 is on a scale to 30, timm's scale ends at 10.
_MAGNITUDE = 9 * 10 / 30
_LARGEST_SHIFT, _SHIFT_SHARE = 100, 0.25  # pixels, and part of the shorter side, at the end of the scale


@dataclass(frozen=True)
class ImageTransform:
    """A function from an RGB picture to a normalised tensor (3, H, W)."""

    steps: Callable[[Image.Image], Tensor]
    is_random: bool
    """Whether it draws random numbers. Calls inside ``seeded`` can be repeated."""
    resized_to: int | None
    """Pixels of the shorter side before the centre is cut out; None if a random part is cut out instead."""

    def __call__(self, picture: Image.Image) -> Tensor:
        return self.steps(picture)


def image_transform(
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    augmentation: Literal["none", "randaugment"] = "none",
    interpolation: str = "bicubic",
    crop_pct: float = 1.0,
) -> ImageTransform:
    """Pictures to square tensors of side ``image_size``.

    ``none``: the shorter side is resized to ``image_size / crop_pct`` and the centre is cut out, as in evaluation.
    ``randaugment``: two random operations of METER's strength before that.

    Args:
        mean: mean of each channel, in [0, 1].
        std: standard deviation of each channel.
        crop_pct: share of the shorter side that is cut out, in (0, 1].
    """
    transform = create_transform(
        (3, image_size, image_size),
        is_training=False,
        interpolation=interpolation,
        mean=tuple(mean),
        std=tuple(std),
        crop_pct=crop_pct,
    )
    if augmentation == "randaugment":
        transform.transforms.insert(0, MeterAugment(tuple(mean)))
    resized_to = next(step.size for step in transform.transforms if isinstance(step, Resize))
    return ImageTransform(transform, is_random=augmentation == "randaugment", resized_to=resized_to)


@dataclass(frozen=True)
class MeterAugment:
    """Two of METER's operations, both always applied. Areas from outside the picture get the colour ``mean``.

    A shift is 30 pixels, as in METER, and at most 7.5 % of the shorter side: METER's pictures are photographs.
    """

    mean: tuple[float, ...]

    def __call__(self, picture: Image.Image) -> Image.Image:
        return self.operations(*picture.size)(picture)

    def operations(self, width: int, height: int) -> RandAugment:
        """The operations for a picture of ``width`` x ``height`` pixels."""
        return _rand_augment(self.mean, min(_LARGEST_SHIFT, _SHIFT_SHARE * min(width, height)))


@cache
def _rand_augment(mean: tuple[float, ...], largest_shift: float) -> RandAugment:
    settings = {
        "translate_const": largest_shift,
        "img_mean": tuple(round(255 * channel) for channel in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    return RandAugment(rand_augment_ops(_MAGNITUDE, prob=1.0, hparams=settings, transforms=_OPERATIONS), num_layers=2)


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Inside, random numbers of Python, numpy and torch's CPU depend on ``seed`` alone. States are restored afterwards.

    Args:
        seed: any number of non-negative integers, such as run seed, epoch and image id.
    """
    words = np.random.SeedSequence(seed).generate_state(3)
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed would reseed the GPUs, too
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
