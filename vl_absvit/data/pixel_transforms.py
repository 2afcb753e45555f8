"""Pictures with labels of their pixels to tensors, as mmsegmentation's recipes have them.

Sizes are height before width. Shapes: H x W pixels.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from vl_absvit.data.segmentation_labels import VOID
from vl_absvit.data.transforms import Normalise

Size = tuple[int, int]
RATIOS = (0.5, 2.0)
"""Smallest and largest scale of a training picture over that of evaluation."""
LARGEST_SHARE = 0.75
"""A cut in which one class has this share of the pixels that have a class, or more, is drawn again."""
REDRAWS = 10
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, 0.5, 0.5, 18 / 180
"""Largest changes of colours: added to values in [0, 1], relative, relative, and as a share of the circle of hues."""


def resized_size(size: Size, longest: int, shortest: int, ratio: float = 1.0) -> Size:
    """The size of a picture that is as large as limits of its sides, times ``ratio``, allow; proportions stay."""
    limits = int(longest * ratio), int(shortest * ratio)
    factor = min(limits[0] / max(size), limits[1] / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def pixels_in(picture: Image.Image) -> Tensor:
    """The values of an RGB picture, (3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def resize_picture(values: Tensor, size: Size) -> Tensor:
    """Values (3, H, W) at another size, bilinearly and without antialiasing, as OpenCV does it up to rounding: by 1."""
    return F.resize(values, list(size), InterpolationMode.BILINEAR, antialias=False)


def resize_label(label: Tensor, size: Size) -> Tensor:
    """Classes (H, W) at another size: each pixel is that of the nearest one above and left."""
    return F.resize(label[None], list(size), InterpolationMode.NEAREST)[0]


@dataclass(frozen=True)
class EvaluationPixels:
    """From a picture to the model's input at one of several scales."""

    longest: int
    shortest: int
    normalise: Normalise

    def __call__(self, picture: Image.Image, ratio: float = 1.0) -> Tensor:
        """(3, H, W)."""
        size = resized_size((picture.height, picture.width), self.longest, self.shortest, ratio)
        return self.normalise(resize_picture(pixels_in(picture), size).float())


@dataclass(frozen=True)
class TrainingPixels:
    """From a picture and its label to an image and a label of the same size.

    Args:
        crop: their size.
        is_random: at a random scale, cut where no class fills it, mirrored or not, in other colours; otherwise at the
            scale of evaluation, with the middle cut out. Random numbers are Python's; ``seeded`` repeats them.
    """

    longest: int
    shortest: int
    crop: Size
    normalise: Normalise
    is_random: bool

    def __call__(self, picture: Image.Image, label: np.ndarray) -> tuple[Tensor, Tensor]:
        """Image (3, *crop), label (*crop) uint8. A picture that is smaller is filled up right and below: with zeros,
        which are the mean colour, and void."""
        ratio = random.uniform(*RATIOS) if self.is_random else 1.0
        size = resized_size((picture.height, picture.width), self.longest, self.shortest, ratio)
        classes = resize_label(torch.from_numpy(label.copy()), size)
        top, left = draw_cut(classes, self.crop) if self.is_random else _middle(size, self.crop)
        place = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
        values, classes = resize_picture(pixels_in(picture), size)[:, *place], classes[place]
        if self.is_random:
            if random.random() < 0.5:
                values, classes = values.flip(-1), classes.flip(-1)
            values = distort(values)
        image = self.normalise(values.float())
        right, below = self.crop[1] - image.shape[2], self.crop[0] - image.shape[1]
        return pad(image, (0, right, 0, below)), pad(classes, (0, right, 0, below), value=VOID)


def draw_cut(label: Tensor, crop: Size) -> tuple[int, int]:
    """Top and left of a part of a label (H, W), drawn up to ``REDRAWS`` times more until no class fills it."""
    margins = [max(side - part, 0) for side, part in zip(label.shape, crop, strict=True)]
    for _ in range(1 + REDRAWS):
        top, left = (random.randint(0, margin) for margin in margins)
        counts = label[top : top + crop[0], left : left + crop[1]].flatten().bincount(minlength=256)
        counts[VOID] = 0
        if (counts > 0).sum() > 1 and counts.max() < LARGEST_SHARE * counts.sum():
            break
    return top, left


def _middle(size: Size, crop: Size) -> tuple[int, int]:
    top, left = (max(side - part, 0) // 2 for side, part in zip(size, crop, strict=True))
    return top, left


def distort(values: Tensor) -> Tensor:
    """Values (3, H, W) uint8 in other colours: each of four changes with even chance, contrast before or after two."""
    colours = values.float() / 255
    if _happens():
        colours = (colours + random.uniform(-BRIGHTNESS, BRIGHTNESS)).clamp(0, 1)
    contrast_first = _happens()
    if contrast_first:
        colours = _with_other_contrast(colours)
    if _happens():
        colours = saturate(colours, random.uniform(1 - SATURATION, 1 + SATURATION))
    if _happens():
        colours = F.adjust_hue(colours, random.uniform(-HUE, HUE))
    if not contrast_first:
        colours = _with_other_contrast(colours)
    return 255 * colours


def _happens() -> bool:
    return random.random() < 0.5


def _with_other_contrast(colours: Tensor) -> Tensor:
    if not _happens():
        return colours
    return (colours * random.uniform(1 - CONTRAST, 1 + CONTRAST)).clamp(0, 1)


def saturate(colours: Tensor, factor: float) -> Tensor:
    """Colours (3, H, W) in [0, 1] with the saturation of HSV times ``factor``, at most 1; hue and value stay."""
    value, least = colours.amax(dim=0), colours.amin(dim=0)
    most = value / (value - least).clamp(min=1e-12)  # the factor at which saturation is 1
    return value - (value - colours) * most.clamp(max=factor)
