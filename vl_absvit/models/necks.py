"""Necks: maps of one stride as they are, or as a pyramid. Shapes: I images, D width, h x w the grid of a map."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.models.token_norms import MapBatchNorm

Neck = Literal["none", "feature2pyramid", "multilevel"]
SCALES = (4, 2, 1, 0.5)
"""Height and width of the pyramid's maps over those of the given ones."""


class NoNeck(nn.Module):
    """The maps as they are, as in the authors' release.

    Args:
        widths: D of each map.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (I, D, h, w), last block last."""
        return maps


class Feature2Pyramid(nn.Module):
    """Four maps at 4, 2, 1 and 1/2 times their size, by transposed convolutions and pooling (BEiT's and MAE's recipes).

    Odd sizes are halved and rounded down, to 1 at least.

    Args:
        widths: D of each of four maps.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        first, second, *_ = widths
        self.upsample_4x = nn.Sequential(
            _doubling(first), MapBatchNorm(first), nn.GELU(), _doubling(first)
        )  # fmt: skip
        self.upsample_2x = nn.Sequential(_doubling(second))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (I, D, h, w) to (I, D, 4 h, 4 w), (I, D, 2 h, 2 w), (I, D, h, w), (I, D, h // 2, w // 2)."""
        first, second, third, last = maps
        halved = F.max_pool2d(last, [min(2, side) for side in last.shape[-2:]])
        return [self.upsample_4x(first), self.upsample_2x(second), third, halved]


class MultiLevel(nn.Module):
    """Four maps at 4, 2, 1 and 1/2 times their size, interpolated between two convolutions (mmsegmentation's ViT).

    There is no norm and no activation. Odd sizes are halved and rounded down, to 1 at least.

    Args:
        widths: D of each of four maps.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        self.laterals = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths)
        for layer in (*self.laterals, *self.convs):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """As ``Feature2Pyramid.forward``."""
        laterals = [layer(one) for layer, one in zip(self.laterals, maps, strict=True)]
        resized = [_scaled(one, scale) for one, scale in zip(laterals, SCALES, strict=True)]
        return [layer(one) for layer, one in zip(self.convs, resized, strict=True)]


def _scaled(one: Tensor, scale: float) -> Tensor:
    """A map (I, D, h, w) at another size; a single row or column is not halved."""
    factors = [max(scale, 1 / side) for side in one.shape[-2:]]
    return F.interpolate(one, scale_factor=factors, mode="bilinear")


def _doubling(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)


NECKS: dict[Neck, Callable[[list[int]], NoNeck | Feature2Pyramid | MultiLevel]] = {
    "none": NoNeck,
    "feature2pyramid": Feature2Pyramid,
    "multilevel": MultiLevel,
}
