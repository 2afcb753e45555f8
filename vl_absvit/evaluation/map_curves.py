"""Does a model use what a map shows? Curves of its confidence while cells are taken away or put in by the map's order.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018 [RISE]: deletion
removes the strongest pixels first, insertion puts them first into a blurred picture. A good map makes the first curve
fall and the second rise at once. Here cells are removed instead of pixels: a map of 14 x 14 says nothing finer.
Shapes: h x w cells, S pixels a side of the model's input, K pictures of a curve.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from vl_absvit.evaluation.attention_agreement import check_finite

BLUR_KERNEL, BLUR_SIGMA = 11, 5.0
"""Of insertion's start, in pixels of the model's input [RISE]."""


def ranks_of(grid: np.ndarray) -> np.ndarray:
    """The place of each cell when the strongest one comes first, (h, w); equal cells come in raster order.

    Raises:
        InputError: the map holds a value that is not finite.
    """
    check_finite(grid)
    order = np.argsort(-np.asarray(grid, dtype=np.float64).ravel(), kind="stable")
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.arange(order.size)
    return ranks.reshape(np.shape(grid))


def on_input(ranks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The rank of the cell of each pixel of the model's input, ``size``."""
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, ranks.shape, strict=True))
    return ranks[rows[:, None], columns]


def steps_of(cells: int, step: int) -> list[int]:
    """How many cells are changed in each picture of a curve: none, ``step``, twice as many, and so on to all, (K,)."""
    return [*range(0, cells, step), cells]


def changed(image: Tensor, other: Tensor, ranks: Tensor, cells: Sequence[int]) -> Tensor:
    """An image whose first cells are another one's, (K, 3, S, S).

    Args:
        image, other: (3, S, S).
        ranks: of each pixel's cell, (S, S).
        cells: how many are another one's, (K,).
    """
    counts = torch.as_tensor(cells, device=image.device)
    is_other = ranks < counts[:, None, None]  # (K, S, S)
    return torch.where(is_other[:, None], other, image)


def deletion_start(image: Tensor) -> tuple[Tensor, Tensor]:
    """From the picture to nothing: the normalised image, and 0 everywhere, the mean colour; (3, S, S) each."""
    return image, torch.zeros_like(image)


def insertion_start(image: Tensor) -> tuple[Tensor, Tensor]:
    """From the blurred picture to the picture, (3, S, S) each."""
    return gaussian_blur(image, [BLUR_KERNEL, BLUR_KERNEL], [BLUR_SIGMA, BLUR_SIGMA]), image


def area(cells: Sequence[int], values: np.ndarray) -> float:
    """Area under a curve by trapezoids, over the share of cells that are changed, in [0, 1]."""
    return float(np.trapezoid(values, np.asarray(cells) / cells[-1]))
