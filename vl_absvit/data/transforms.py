"""Pictures to tensors, and random numbers that depend on a seed alone."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torchvision.transforms import Compose

from vl_absvit.data.fast_augment import change, see
from vl_absvit.data.rand_augment import augment, draw
from vl_absvit.data.rgb import Reduced, decode_reduced, decode_rgb
from vl_absvit.errors import InputError


@dataclass(frozen=True)
class ImageTransform:
    """A function from what ``decode`` gives to a normalised tensor (3, H, W)."""

    steps: Callable[[Any], Tensor]
    is_random: bool
    """Whether it draws random numbers. Calls inside ``seeded`` can be repeated."""
    resized_to: int | None
    """Pixels of the shorter side before the centre is cut out; None if a random part is cut out instead."""
    decode: Callable[[bytes], Any] = decode_rgb
    """From a file's content to what the steps take: an RGB picture, or a ``Reduced`` one."""

    def __call__(self, picture: Any) -> Tensor:
        return self.steps(picture)


Augmentation = Literal["none", "randaugment", "randaugment_fast"]


def image_transform(
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    augmentation: Augmentation = "none",
    interpolation: str = "bicubic",
    crop_pct: float = 1.0,
    corrupt: Callable[[Image.Image], Image.Image] | None = None,
    border: int = 0,
) -> ImageTransform:
    """Pictures to square tensors of side ``image_size``.

    ``none``: the shorter side is resized to ``image_size / crop_pct`` and the centre is cut out, as in evaluation.
    ``randaugment``: two random operations before that, as in METER. ``randaugment_fast``: the same operations on a
    JPEG decoded at reduced scale; always bicubic. ``fast_augment`` says what is approximate.

    Args:
        mean: mean of each channel, in [0, 1].
        std: standard deviation of each channel.
        crop_pct: share of the shorter side that is cut out, in (0, 1].
        corrupt: what happens to a picture that has been cut; it draws random numbers.
        border: pixels that are cut off from each side of a picture first, where nothing augments.
    """
    transform = create_transform(
        (3, image_size, image_size),
        is_training=False,
        interpolation=interpolation,
        mean=tuple(mean),
        std=tuple(std),
        crop_pct=crop_pct,
    )
    resize, crop, *_ = transform.transforms
    normalise = Normalise(mean, std)
    if augmentation == "randaugment_fast":
        decode = partial(decode_reduced, enough=resize.size)
        return ImageTransform(FastSteps(resize.size, image_size, normalise), True, resize.size, decode)
    steps = [resize, crop, *([corrupt] if corrupt else []), pixels_of, normalise]
    if augmentation == "randaugment":
        return ImageTransform(Compose([augmented, *steps]), True, resize.size)
    first = [partial(without_border, border=border)] if border else []
    return ImageTransform(Compose([*first, *steps]), corrupt is not None, resize.size)


def without_border(picture: Image.Image, border: int) -> Image.Image:
    """A picture without some pixels at each side.

    Raises:
        InputError: nothing would be left.
    """
    if min(picture.size) <= 2 * border:
        raise InputError(f"a picture of {picture.width} x {picture.height} px is all border of {border} px")
    return ImageOps.crop(picture, border)


def augmented(picture: Image.Image) -> Image.Image:
    """A picture after two random operations."""
    return augment(picture, draw())


def pixels_of(picture: Image.Image) -> Tensor:
    """The values of a picture in [0, 255], (3, H, W) in fp32."""
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return values.to(torch.float32, memory_format=torch.contiguous_format)


class Normalise:
    """Values in [0, 255] to mean 0 and standard deviation 1, in place; to the bit what torchvision's steps give."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def __call__(self, values: Tensor) -> Tensor:
        return values.div_(255).sub_(self._mean).div_(self._std)


@dataclass(frozen=True)
class FastSteps:
    """From a reduced picture to the model's input, augmented on the way."""

    resized_to: int
    image_size: int
    normalise: Normalise

    def __call__(self, reduced: Reduced) -> Tensor:
        return self.normalise(see(change(reduced, draw()), self.resized_to, self.image_size))


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Inside, random numbers of Python, numpy and torch's CPU depend on ``seed`` alone. States are restored afterwards.

    Args:
        seed: any number of non-negative integers, such as run seed, epoch and image id.
    """
    with _states_kept():
        _seed(seed)
        yield


def transformed(transform: ImageTransform, pictures: Iterable[Any], seeds: Iterable[Sequence[int]]) -> list[Tensor]:
    """Pictures as tensors (3, H, W), as if each had been transformed in ``seeded`` of its own.

    Args:
        pictures: what the transform decoded, one after the other.
        seeds: of each picture.
    """
    if not transform.is_random:
        return [transform(picture) for picture in pictures]
    made = []
    with _states_kept():  # once for all: reading and setting numpy's state takes longer than seeding it
        for picture, seed in zip(pictures, seeds, strict=True):
            _seed(seed)
            made.append(transform(picture))
    return made


def _seed(seed: Sequence[int]) -> None:
    words = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed would reseed the GPUs, too


@contextmanager
def _states_kept() -> Iterator[None]:
    """Inside, random numbers leave no trace in the generators, whose states are restored afterwards."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
