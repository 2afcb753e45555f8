"""Pictures of tokens: a linear decoder from the first block's input to pixels, and a page of what it shows.

Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS], appendix, Figure 4.

A ViT embeds the pixels x_i of patch i linearly and adds a position: z_0,i = W x_i + b + p_i. Least squares turn this
around: x_i = A (z_0,i - p_i) + c. Without subtracting positions, A would have to be blind to them, for which a width of
3 p^2 has no room; one intercept for every patch, c - A p_i, takes care of them. What is fed back to the first block's
input is a change of z_0, which changes the pixels by A r and knows no intercept: no signal, no change. The decoded sum
is the sum of both pictures.

Shapes: I pictures of h x w pixels, n patches each, P = 3 p^2 pixel values of a patch, D width. Pixels are RGB, 0 to 1.
"""

import textwrap
from collections.abc import Iterable, Sequence
from math import isqrt, log10
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vl_absvit.attention.render import FAINT, GAP, INK, MARGIN, PAPER
from vl_absvit.errors import InputError

RIDGE = 1e-3
"""Of the mean variance of a token's numbers. The less, the closer to exact where W can be inverted; the more, the less
A makes of small faults of what is fed back, in directions in which z_0 itself hardly varies."""
TILE = 192
"""About the side of a picture on the page, in pixels; every pixel of the model's becomes a whole number of them."""
HEADING, CAPTION = 44, 24
"""Height of a prior above its pictures and of the line below a picture, in pixels."""
PER_ROW = 3
"""Priors side by side, at most."""


class LinearDecoder(NamedTuple):
    """From tokens of the first block's input to the pixels of their patches."""

    weight: Tensor  # (D, P), A
    intercept: Tensor  # (n, P), c - A p_i
    mean_patch: Tensor  # (P,), of the pictures it was fitted on


class Quality(NamedTuple):
    """How well a decoder gives back the pictures whose z_0 it is shown."""

    r2: float | None  # 1 - its squared error over that of the mean patch it was fitted on; None if that has none
    psnr: float | None  # dB, of pixels between 0 and 1; None if there is no error
    patches: int


class Steering(NamedTuple):
    """What one prior feeds back, as pixels."""

    title: str
    top_down: np.ndarray  # (h, w, 3), what it adds
    sum: np.ndarray  # (h, w, 3), bottom-up with it


def to_patches(pictures: Tensor, side: int) -> Tensor:
    """Pictures (I, 3, h, w) as patches in raster order, (I, n, P)."""
    rows = pictures.unfold(2, side, side).unfold(3, side, side)  # (I, 3, rows, columns, p, p)
    return rows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def to_pictures(patches: Tensor) -> Tensor:
    """The reverse of ``to_patches`` for square pictures, with colours last: (I, n, P) -> (I, h, w, 3)."""
    patches_a_side, side = isqrt(patches.shape[1]), isqrt(patches.shape[2] // 3)
    grid = patches.unflatten(2, (3, side, side)).unflatten(1, (patches_a_side, patches_a_side))
    return grid.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2)


def fit_decoder(batches: Iterable[tuple[Tensor, Tensor]], positions: Tensor, ridge: float = RIDGE) -> LinearDecoder:
    """Ridge least squares in double precision; only sums over the batches are kept.

    Args:
        batches: z_0 of patches, (I, n, D), and their pixels, (I, n, P).
        positions: what is added to every patch whatever it shows, (n, D).
        ridge: added to the variances, as a share of their mean; more than 0.

    Raises:
        InputError: there are fewer patches than unknowns, all are the same, or something is not finite.
    """
    positions, gram, cross = positions.double(), 0, 0
    for tokens, patches in batches:
        content = (tokens.double() - positions).flatten(0, 1)
        content = torch.cat([content, torch.ones_like(content[:, :1])], dim=1)  # (I * n, D + 1)
        gram = gram + content.T @ content
        cross = cross + content.T @ patches.double().flatten(0, 1)
    count, unknowns = int(gram[-1, -1]), len(gram)
    if count < unknowns:
        raise InputError(f"{count:,} patches cannot tell {unknowns:,} unknowns of each pixel; take more pictures")
    if not (gram.isfinite().all() and cross.isfinite().all()):
        raise InputError("the first block's input, or a picture, has numbers that are not finite")
    mean, mean_patch = gram[-1, :-1] / count, cross[-1] / count
    covariance = gram[:-1, :-1] / count - torch.outer(mean, mean)
    variances, directions = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0)  # rounding may leave them below
    if not variances[-1] > 1e-12 * mean.square().mean():
        raise InputError("all patches are the same, which teaches nothing about their pixels")
    along = directions.T @ (cross[:-1] / count - torch.outer(mean, mean_patch))  # (D, P)
    weight = directions @ (along / (variances + ridge * variances.mean()).unsqueeze(1))
    return LinearDecoder(weight, mean_patch - (mean + positions) @ weight, mean_patch)


def decode(decoder: LinearDecoder, tokens: Tensor) -> Tensor:
    """The pixels of patches with these z_0, (I, n, D) -> (I, n, P)."""
    return tokens.double() @ decoder.weight + decoder.intercept


def decode_signal(decoder: LinearDecoder, signal: Tensor) -> Tensor:
    """What pixels gain when ``signal`` is added to their z_0, (I, n, D) -> (I, n, P); 0 for a signal of 0."""
    return signal.double() @ decoder.weight


def judge_decoder(decoder: LinearDecoder, batches: Iterable[tuple[Tensor, Tensor]]) -> Quality:
    """Score on other pictures than those that it was fitted on.

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
    """Factor by which all but the strongest hundredth of what changes stays within black and white, from mid-grey.

    Args:
        top_down: of all priors of one picture, (priors, h, w, 3); where nothing changes the factor is 1.
    """
    changes = np.abs(top_down[top_down != 0])
    return float(0.5 / np.quantile(changes, 0.99)) if len(changes) else 1.0


def decoding_sheet(
    image: np.ndarray, bottom_up: np.ndarray, steerings: Sequence[Steering], *, scale: float, note: str
) -> Image.Image:
    """A page: the picture, its decoded z_0, and for every prior what is fed back and the sum.

    Args:
        image: as the model sees it, (h, w, 3).
        bottom_up: (h, w, 3).
        steerings: one for every prior.
        scale: of all top-down pictures, which are shown as changes of mid-grey.
        note: one line at the foot of the page.
    """
    side = max(1, round(TILE / len(image))) * len(image)
    step_x, step_y = side + GAP, HEADING + side + CAPTION
    rows = -(-len(steerings) // PER_ROW)
    columns = 2 + 2 * min(len(steerings), PER_ROW)
    width, height = 2 * MARGIN + columns * step_x - GAP, 2 * MARGIN + rows * step_y + CAPTION
    page = Image.new("RGB", (width, height), PAPER)

    def place(column: int, row: int, pixels: np.ndarray, title: str) -> None:
        left, top = MARGIN + column * step_x, MARGIN + row * step_y + HEADING
        small = Image.fromarray(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8))
        page.paste(small.resize((side, side), Image.Resampling.NEAREST), (left, top))
        page.paste(_lines(title, side, CAPTION, size=13, colour=FAINT), (left, top + side))

    place(0, 0, image, "image")
    place(1, 0, bottom_up, "bottom-up")
    for number, steering in enumerate(steerings):
        row, column = number // PER_ROW, 2 + 2 * (number % PER_ROW)
        heading = _lines(steering.title, step_x + side, HEADING, size=14, colour=INK, bold=True)
        page.paste(heading, (MARGIN + column * step_x, MARGIN + row * step_y))
        changes = f"top-down x {scale:.3g}" if steering.top_down.any() else "top-down: 0 everywhere"
        place(column, row, 0.5 + scale * steering.top_down, changes)
        place(column + 1, row, steering.sum, "sum")
    foot = _lines(note, width - 2 * MARGIN, CAPTION, size=12, colour=FAINT)
    page.paste(foot, (MARGIN, height - MARGIN - CAPTION))
    return page


def _lines(text: str, width: int, height: int, *, size: int, colour: str, bold: bool = False) -> Image.Image:
    """A strip with as many lines as fit, the last of a longer text ends in an ellipsis."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf" / name, size)
    letters = int(width // font.getlength("n"))
    lines = textwrap.wrap(text, letters, max_lines=max(1, height // (size + 6)), placeholder=" …")
    strip = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(strip).multiline_text((0, height - 4), "\n".join(lines), fill=colour, font=font, anchor="ld")
    return strip
