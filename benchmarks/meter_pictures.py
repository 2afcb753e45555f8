"""METER's training pictures, written down plainly from its published code: to be timed, and to be compared with.

RandAugment takes two out of fourteen operations of magnitude 9 on a scale to 30; then the shorter side is resized and
the centre cut out. Its recipes' transform, ``clip_randaug``, carries an alpha channel; ``imagenet_randaug`` does not.
"""

import io
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

Affine = tuple[float, float, float, float, float, float]
Change = Callable[[Image.Image, float], Image.Image]


def either_way(value: float) -> float:
    """The value or its negative, with equal chance."""
    return -value if random.random() > 0.5 else value


def affine(coefficients: Callable[[float], Affine]) -> Change:
    """Pixels moved to the nearest place, either way; black where there are none."""
    return lambda picture, value: picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients(either_way(value))
    )


def enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    """One of Pillow's enhancements."""
    return lambda picture, factor: kind(picture).enhance(factor)


def solarize_add(picture: Image.Image, addition: float) -> Image.Image:
    """Solarization of the upper half after an addition."""
    values = (np.array(picture).astype(int) + addition).clip(0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(values), 128)


OPERATIONS: dict[str, tuple[Change, float, float]] = {
    "AutoContrast": (lambda picture, _: ImageOps.autocontrast(picture), 0, 1),
    "Equalize": (lambda picture, _: ImageOps.equalize(picture), 0, 1),
    "Rotate": (lambda picture, degrees: picture.rotate(either_way(degrees)), 0, 30),
    "Posterize": (lambda picture, bits: ImageOps.posterize(picture, max(1, int(bits))), 0, 4),
    "Solarize": (lambda picture, threshold: ImageOps.solarize(picture, threshold), 0, 256),  # type: ignore[arg-type]
    "SolarizeAdd": (solarize_add, 0, 110),
    "Color": (enhance(ImageEnhance.Color), 0.1, 1.9),
    "Contrast": (enhance(ImageEnhance.Contrast), 0.1, 1.9),
    "Brightness": (enhance(ImageEnhance.Brightness), 0.1, 1.9),
    "Sharpness": (enhance(ImageEnhance.Sharpness), 0.1, 1.9),
    "ShearX": (affine(lambda value: (1, value, 0, 0, 1, 0)), 0, 0.3),
    "ShearY": (affine(lambda value: (1, 0, 0, value, 1, 0)), 0, 0.3),
    "TranslateX": (affine(lambda value: (1, 0, value, 0, 1, 0)), 0, 100),
    "TranslateY": (affine(lambda value: (1, 0, 0, 0, 1, value)), 0, 100),
}


def rand_augment(picture: Image.Image) -> Image.Image:
    """Two operations, either of which may come twice."""
    for change, low, high in random.choices(list(OPERATIONS.values()), k=2):
        picture = change(picture, 9 / 30 * (high - low) + low)
    return picture


def meter_pictures(
    image_size: int, mean: Sequence[float], std: Sequence[float], alpha: bool
) -> Callable[[bytes], Tensor]:
    """From a file's content to the model's input (3, image_size, image_size), with or without an alpha channel."""

    def in_mode(mode: str) -> Callable[[Image.Image], Image.Image]:
        return lambda picture: picture.convert(mode)

    steps = [
        *([in_mode("RGB")] if alpha else []),
        rand_augment,
        *([in_mode("RGBA")] if alpha else []),
        Resize(image_size, interpolation=Image.Resampling.BICUBIC),
        CenterCrop(image_size),
        *([in_mode("RGB")] if alpha else []),
        ToTensor(),
        Normalize(tuple(mean), tuple(std)),
    ]
    transform = Compose(steps)
    return lambda content: transform(Image.open(io.BytesIO(content)).convert("RGBA" if alpha else "RGB"))
