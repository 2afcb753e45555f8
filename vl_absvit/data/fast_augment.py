"""METER's RandAugment on a picture decoded at reduced scale, turned and sheared at the model's scale.

Shapes: S pixels a side of the model's input, R x C pixels of the resized picture.

The draws are those of ``rand_augment``. What is approximate:

- Values are changed, and their statistics taken, where a JPEG was decoded at 1/2, 1/4 or 1/8 of its size: fine detail
  is averaged before, not after. ``Sharpness`` weighs its smoothing so that it blurs as far as in the whole picture.
- Rotations and shears become one map, which the resized picture is sampled by, bicubically, after all else is done.
  METER takes the nearest pixel of the whole picture, one move after the other. What one such move takes out of the
  frame the next may bring back.
- Resizing is torch's, some values of which are one of 255 away from Pillow's.

Where nothing was reduced, turned or sheared, the last is all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vl_absvit.data.rand_augment import FACTOR, MIXTURES, MOVES, SHIFTS, TABLES, Move, Operation, move
from vl_absvit.data.rgb import Reduced

_BLACK = (0, 0, 0)


class Changed(NamedTuple):
    """A picture whose values are changed and whose pixels may still have to be moved."""

    picture: Image.Image
    moved: np.ndarray | None  # (3, 3), from places of the moved picture to places of this one, in pixels
    outside: tuple[int, ...]  # colour of places that lie outside


def change(reduced: Reduced, operations: Sequence[Operation]) -> Changed:
    """Do what shifts and what changes values, in order, and put other moves into one matrix."""
    picture, by = reduced
    moved: np.ndarray | None = None
    outside: tuple[int, ...] = _BLACK
    for operation in operations:
        if operation.name in SHIFTS and moved is None:
            picture = _move(picture, move(operation, picture.size, by))
        elif operation.name in MOVES:
            further = _matrix(move(operation, picture.size, by))
            moved, outside = further if moved is None else moved @ further, _BLACK
        elif operation.name in TABLES:
            table = TABLES[operation.name](picture if moved is None else _move(picture, moved[:2].ravel().tolist()))
            picture, outside = picture.point(table), tuple(table[256 * c + outside[c]] for c in range(3))
        else:
            factor = 1 - (1 - FACTOR) / by**2 if operation.name == "Sharpness" else FACTOR
            picture = MIXTURES[operation.name](picture, factor)
    return Changed(picture, moved, outside)


def see(changed: Changed, resized_to: int, side: int) -> Tensor:
    """Resize the shorter side to ``resized_to``, move, and cut the middle out: values in [0, 255], (3, S, S)."""
    width, height = changed.picture.size
    columns, rows = (resized_to * length // min(width, height) for length in (width, height))
    left, top = (round((length - side) / 2) for length in (columns, rows))
    pixels = torch.from_numpy(np.array(changed.picture)).permute(2, 0, 1).unsqueeze(0)
    resized = F.interpolate(pixels, (rows, columns), mode="bicubic", antialias=True)  # (1, 3, R, C)
    if changed.moved is None:
        middle = resized[0, :, top : top + side, left : left + side]
        return middle.to(torch.float32, memory_format=torch.contiguous_format)
    scale = np.diag([columns / width, rows / height, 1])
    moved = scale @ changed.moved @ np.linalg.inv(scale) @ _matrix((1, 0, left, 0, 1, top))
    places = _places(moved, side) * torch.tensor([2 / columns, 2 / rows]) - 1
    outside = torch.tensor(changed.outside).view(3, 1, 1)
    seen = F.grid_sample(resized.float() - outside, places.unsqueeze(0), "bicubic", align_corners=False)
    return seen[0].add_(outside).clamp_(0, 255)


def _places(moved: np.ndarray, side: int) -> Tensor:
    """Where the centres of S x S pixels lie in the resized picture, (S, S, 2), x before y, in pixels."""
    (a, b, c), (d, e, f) = moved[:2].tolist()
    x = torch.arange(side) + 0.5
    y = x.unsqueeze(1)
    return torch.stack([a * x + (b * y + c), d * x + (e * y + f)], dim=-1)


def _matrix(coefficients: Move) -> np.ndarray:
    return np.array([coefficients[:3], coefficients[3:], (0, 0, 1)])


def _move(picture: Image.Image, coefficients: Sequence[float]) -> Image.Image:
    """To the nearest pixel, in the picture's own size."""
    return picture.transform(picture.size, Image.Transform.AFFINE, tuple(coefficients))
