"""METER's RandAugment, operation by operation: two out of fourteen, at magnitude 9 of 30, one after the other.

Equal draws give METER's pixels. One thing differs: METER shifts by 30 pixels, here it is at most 7.5 % of the shorter
side, because METER's pictures are photographs. Places from outside the picture are black; the nearest pixel is taken.

An operation moves pixels, or looks every value up in a table, or mixes a pixel with others. Moves and tables are given
as numbers, so that ``fast_augment`` can put several of them into one.

Source: RandAugment (Cubuk et al., 2020) with n = 2 and m = 9, and the list of operations of ViLT (Kim et al., 2021),
which METER (Dou et al., 2022) uses: without inversion, cut-out and mirroring, because texts speak of colours, of small
things and of left and right.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageStat

Move = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): at (x, y) the moved picture shows what was at (a x + b y + c, d x + e y + f), in pixels."""
Table = list[int]
"""The new value of each of 256 values, for each of three channels: 768 entries."""

NUMBER = 2
ANGLE, SHEAR, SHIFT = 9.0, 0.09, 30.0  # degrees, pixels per pixel, pixels: 9/30 of METER's 30, 0.3 and 100
LARGEST_SHIFT = 0.075  # of the shorter side
BITS, THRESHOLD, ADDED, ADDED_THRESHOLD = 1, 76.8, 33, 128  # posterize, solarize, and solarize after adding
FACTOR = 0.64  # of colour, contrast, brightness and sharpness; 1 changes nothing


class Operation(NamedTuple):
    """One of ``OPERATIONS``."""

    name: str
    sign: int = 1  # -1 where it moves the other way


def draw() -> list[Operation]:
    """Two operations, either of which may come twice, from Python's generator in METER's order."""
    names = random.choices(OPERATIONS, k=NUMBER)
    return [Operation(name, -1 if name in MOVES and random.random() > 0.5 else 1) for name in names]


def augment(picture: Image.Image, operations: Sequence[Operation]) -> Image.Image:
    """An RGB picture after some operations, of its size."""
    for operation in operations:
        if operation.name in MOVES:
            picture = picture.transform(picture.size, Image.Transform.AFFINE, move(operation, picture.size))
        elif operation.name in TABLES:
            picture = picture.point(TABLES[operation.name](picture))
        else:
            picture = MIXTURES[operation.name](picture, FACTOR)
    return picture


def move(operation: Operation, size: tuple[int, int], reduced_by: int = 1) -> Move:
    """Where an operation of ``MOVES`` takes the pixels of a picture of ``size`` from.

    Args:
        reduced_by: ``size`` was so many times as large before, and what counts pixels counts those.
    """
    return MOVES[operation.name](operation.sign, size, min(SHIFT / reduced_by, LARGEST_SHIFT * min(size)))


def _rotation(sign: int, size: tuple[int, int], shift: float) -> Move:
    """About the centre, anticlockwise."""
    x, y = size[0] / 2, size[1] / 2
    cosine, sine = (round(f(math.radians(-sign * ANGLE)), 15) for f in (math.cos, math.sin))  # as in Pillow
    return cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y


MOVES: dict[str, Callable[[int, tuple[int, int], float], Move]] = {
    "Rotate": _rotation,
    "ShearX": lambda sign, size, shift: (1, sign * SHEAR, 0, 0, 1, 0),
    "ShearY": lambda sign, size, shift: (1, 0, 0, sign * SHEAR, 1, 0),
    "TranslateX": lambda sign, size, shift: (1, 0, sign * shift, 0, 1, 0),
    "TranslateY": lambda sign, size, shift: (1, 0, 0, 0, 1, sign * shift),
}
"""What moves pixels: sign, size and the length of a shift to a ``Move``."""
SHIFTS = ("TranslateX", "TranslateY")


def _autocontrast(picture: Image.Image) -> Table:
    """The values of each channel stretched over the whole range."""
    return _by_channel(picture, stretched)


def _equalize(picture: Image.Image) -> Table:
    """The values of each channel made equally frequent."""
    return _by_channel(picture, equalized)


def _by_channel(picture: Image.Image, table_of: Callable[[np.ndarray], np.ndarray]) -> Table:
    histograms = np.array(picture.histogram()).reshape(3, 256)
    return np.concatenate([table_of(histogram) for histogram in histograms]).tolist()


def stretched(histogram: np.ndarray) -> np.ndarray:
    """The table, (256,), that takes the lowest value of a histogram (256,) to 0 and the highest to 255."""
    (present,) = histogram.nonzero()
    if len(present) < 2:
        return np.arange(256)
    scale = 255 / (present[-1] - present[0])
    return (np.arange(256) * scale - present[0] * scale).astype(int).clip(0, 255)


def equalized(histogram: np.ndarray) -> np.ndarray:
    """The table, (256,), that makes the values of a histogram (256,) equally frequent, as Pillow rounds it."""
    (present,) = histogram.nonzero()
    step = (histogram.sum() - histogram[present[-1]]) // 255 if len(present) > 1 else 0
    if step == 0:
        return np.arange(256)
    below = histogram.cumsum() - histogram
    return ((below + step // 2) // step).clip(0, 255)


def _contrast(picture: Image.Image) -> Table:
    """Towards the mean of the grey picture."""
    return _towards(int(ImageStat.Stat(picture.convert("L")).mean[0] + 0.5))


def _towards(grey: int) -> Table:
    """Each value mixed with one grey, as Pillow rounds it."""
    values = Image.frombytes("L", (256, 1), bytes(range(256)))
    return list(Image.blend(Image.new("L", (256, 1), grey), values, FACTOR).tobytes()) * 3


def _of_values(new: Callable[[int], int]) -> Callable[[Image.Image], Table]:
    """The same table for every picture and channel."""
    table = [new(value) for value in range(256)] * 3
    return lambda picture: table


def _solarized(value: int, threshold: float) -> int:
    return value if value < threshold else 255 - value


TABLES: dict[str, Callable[[Image.Image], Table]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Posterize": _of_values(lambda value: value & ~(2 ** (8 - BITS) - 1)),
    "Solarize": _of_values(lambda value: _solarized(value, THRESHOLD)),
    "SolarizeAdd": _of_values(lambda value: _solarized(min(value + ADDED, 255), ADDED_THRESHOLD)),
    "Contrast": _contrast,
    "Brightness": lambda picture: _towards(0),
}
"""What looks values up: a picture to its table. Its pixels matter to some of them as a whole."""


def _color(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(factor)


def _sharpness(picture: Image.Image, factor: float) -> Image.Image:
    return Image.blend(smooth(picture), picture, factor)


def smooth(picture: Image.Image) -> Image.Image:
    """Pillow's ``SMOOTH`` filter, in a third of its time: a mean of 3 x 3 pixels, the middle one counting five times.

    The border stays as it is.
    """
    pixels = np.asarray(picture).astype(np.uint16)
    rows = pixels[:-2] + pixels[1:-1]
    rows += pixels[2:]
    total = 4 * pixels[1:-1, 1:-1]
    for columns in (slice(None, -2), slice(1, -1), slice(2, None)):
        total += rows[:, columns]
    total *= 2
    total += 13
    total //= 26  # of 13ths, rounded; they never lie half-way
    result = np.array(picture)
    result[1:-1, 1:-1] = total
    return Image.fromarray(result)


MIXTURES: dict[str, Callable[[Image.Image, float], Image.Image]] = {"Color": _color, "Sharpness": _sharpness}
"""What mixes a pixel's channels, or a pixel with its neighbours: picture and factor to a picture."""

OPERATIONS = (
    "AutoContrast Equalize Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness Sharpness ShearX ShearY "
    "TranslateX TranslateY"
).split()
"""Names, in METER's order."""
