"""Tokens as pictures: a linear decoder from the first block's input to pixels.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS], appendix, Figure 4.

A ViT embeds the pixels x_i of patch i linearly and adds a position: z_0,i = W x_i + b + p_i. Least squares invert
this: x_i = A (z_0,i - p_i) + c. The positions are subtracted because A could not ignore them: a width of 3 p^2 has no
spare dimensions. Each patch therefore has its own intercept, c - A p_i. The feedback r to the first block's input is a
change of z_0. It changes the pixels by A r, without an intercept: no signal, no change. The decoded sum is the sum of
both pictures.

Shapes: I pictures of h x w pixels, n patches each, P = 3 p^2 pixel values of a patch, D width. Pixels are RGB, 0 to 1.
"""

from collections.abc import Iterable
from math import log10
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vl_absvit.errors import InputError

RIDGE = 1e-3
"""Ridge, as a share of the mean variance of a token's numbers. A small ridge is nearly exact where W can be inverted.
A large ridge keeps A from amplifying small errors of the feedback in directions in which z_0 hardly varies."""


class LinearDecoder(NamedTuple):
    """A linear map from tokens of the first block's input to the pixels of their patches."""

    weight: Tensor  # (D, P), A
    intercept: Tensor  # (n, P), c - A p_i
    mean_patch: Tensor  # (P,), of the pictures it was fitted on


class Quality(NamedTuple):
    """Quality of a decoder on pictures that it decodes from their z_0."""

    r2: float | None  # 1 - squared error over that of the mean patch of fitting; None if the latter is 0
    psnr: float | None  # dB, of pixels between 0 and 1; None if there is no error
    patches: int


def to_patches(pictures: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pictures (I, 3, h, w), cut into so many rows and columns, as patches in raster order, (I, n, P)."""
    rows, columns = grid
    cut = pictures.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # (I, 3, rows, height, columns, width)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def to_pictures(patches: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The reverse of ``to_patches`` for pictures of a height and width, colours last: (I, n, P) -> (I, h, w, 3)."""
    (rows, columns), (height, width) = grid, size
    cut = patches.unflatten(2, (3, height // rows, width // columns)).unflatten(1, grid)
    return cut.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


def fit_decoder(batches: Iterable[tuple[Tensor, Tensor]], positions: Tensor, ridge: float = RIDGE) -> LinearDecoder:
    """Fit ridge least squares in double precision. Only sums over the batches are kept in memory.

    Args:
        batches: z_0 of patches, (I, n, D), and their pixels, (I, n, P).
        positions: the position embedding of every patch, (n, D).
        ridge: added to the variances, as a share of their mean; more than 0.

    Raises:
        InputError: there are fewer patches than unknowns, all are the same, or something is not finite.
    """
    positions, sums = positions.double(), None
    for tokens, patches in batches:
        content = (tokens.double() - positions).flatten(0, 1)
        content = torch.cat([content, torch.ones_like(content[:, :1])], dim=1)  # (I * n, D + 1)
        products = content.T @ content, content.T @ patches.double().flatten(0, 1)
        sums = products if sums is None else (sums[0] + products[0], sums[1] + products[1])
    assert sums is not None, "no images"
    gram, cross = sums
    count, unknowns = int(gram[-1, -1]), len(gram)
    if count < unknowns:
        raise InputError(f"{count:,} patches cannot tell {unknowns:,} unknowns of each pixel; take more pictures")
    if not (gram.isfinite().all() and cross.isfinite().all()):
        raise InputError("the first block's input, or a picture, has numbers that are not finite")
    mean, mean_patch = gram[-1, :-1] / count, cross[-1] / count
    covariance = gram[:-1, :-1] / count - torch.outer(mean, mean)
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)  # rounding may make them negative
    if not variances[-1] > 1e-12 * mean.square().mean():
        raise InputError("all patches are the same, which teaches nothing about their pixels")
    along = directions.T @ (cross[:-1] / count - torch.outer(mean, mean_patch))  # (D, P)
    weight = directions @ (along / (variances + ridge * variances.mean()).unsqueeze(1))
    return LinearDecoder(weight, mean_patch - (mean + positions) @ weight, mean_patch)


def decode(decoder: LinearDecoder, tokens: Tensor) -> Tensor:
    """The pixels of patches with these z_0, (I, n, D) -> (I, n, P)."""
    return tokens.double() @ decoder.weight + decoder.intercept


def decode_signal(decoder: LinearDecoder, signal: Tensor) -> Tensor:
    """The change of the pixels when ``signal`` is added to z_0, (I, n, D) -> (I, n, P); 0 for a signal of 0."""
    return signal.double() @ decoder.weight


def judge_decoder(decoder: LinearDecoder, batches: Iterable[tuple[Tensor, Tensor]]) -> Quality:
    """Score a decoder on pictures that it was not fitted on.

    Args:
        batches: as for ``fit_decoder``; at least one.
    """
    error = spread = 0.0
    values = patch_count = 0
    for tokens, patches in batches:
        error += float((decode(decoder, tokens) - patches).square().sum())
        spread += float((patches - decoder.mean_patch).square().sum())
        values, patch_count = values + patches.numel(), patch_count + patches.shape[0] * patches.shape[1]
    return Quality(1 - error / spread if spread else None, -10 * log10(error / values) if error else None, patch_count)


def shared_scale(top_down: np.ndarray) -> float:
    """Factor for drawing changes around mid-grey: only the strongest hundredth of them is cut at black or white.

    Args:
        top_down: of all priors of one picture, (priors, h, w, 3); the factor is 1 if nothing changes.
    """
    changes = np.abs(top_down[top_down != 0])
    return float(0.5 / np.quantile(changes, 0.99)) if len(changes) else 1.0
