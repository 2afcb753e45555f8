"""Tables of positions on other grids. Shapes: P rows of tokens that are no patches, N patches, D width."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor

PositionRule = Literal["timm", "release"]
Size = tuple[int, int]


def resampled_by_timm(table: Tensor, grid: Size, before: Size | None, prefix: int) -> Tensor:
    """By timm's rule: bicubic, with antialiasing, which is another kernel when it enlarges, too."""
    if before is None:  # timm takes it to be square
        return resample_abs_pos_embed(table, list(grid), num_prefix_tokens=prefix)
    return resample_abs_pos_embed(table, list(grid), list(before), num_prefix_tokens=prefix)


def resampled_as_released(table: Tensor, grid: Size, before: Size | None, prefix: int) -> Tensor:
    """By the rule of the authors' segmentation code: bicubic, without antialiasing.

    The release compares numbers of tokens and takes the table as it is where those agree, on whatever grid. Here grids
    are compared: 16 x 64 patches do not get the table of 32 x 32 row by row.
    """
    side = round((table.shape[1] - prefix) ** 0.5)
    before = before or (side, side)
    if tuple(grid) == tuple(before):
        return table
    others, patches = table[:, :prefix], table[:, prefix:]
    on_grid = patches.unflatten(1, before).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    resized = F.interpolate(on_grid, size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([others, resized.flatten(2).mT], dim=1)


RESAMPLE: dict[PositionRule, Callable[[Tensor, Size, Size | None, int], Tensor]] = {
    "timm": resampled_by_timm,
    "release": resampled_as_released,
}
"""Each takes a table (1, P + N, D), rows and columns of the grid it is for, those it has, None for a square, and P."""
