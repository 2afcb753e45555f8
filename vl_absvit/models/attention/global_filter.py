"""GFNet's global filter: every channel of the tokens' map is multiplied by learned numbers in the Fourier domain.

Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021 [GFNet]. It has no queries, keys, values or
heads. The top-down input is ours: it is added to the filter's input, as if the values were the normed tokens.
Shapes: B images, N tokens of a grid, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vl_absvit.models.attention.fourier import filtered
from vl_absvit.models.attention.softmax import Projections, TopDownAttention
from vl_absvit.models.top_down import Steered


class GlobalFilter(TopDownAttention):
    """irfft2(complex_weight * rfft2(x)), orthonormal and never below fp32.

    Args:
        num_heads: has no effect, and neither have others that timm gives to any attention.
        grid: rows and columns of the tokens.
    """

    needs_grid, has_queries, has_weights = True, False, False

    def __init__(self, dim: int, num_heads: int = 1, *, grid: tuple[int, int], **others: Any) -> None:
        nn.Module.__init__(self)
        self.grid = grid
        self.complex_weight = nn.Parameter(0.02 * torch.randn(grid[0], grid[1] // 2 + 1, dim, 2))

    def project(self, x: Tensor, top_down: Steered | None = None, norm: nn.Module | None = None) -> Projections:
        normed = x if norm is None else norm(x)
        bottom_up = Projections(normed[..., :0], normed)
        return bottom_up if top_down is None else self.steer(bottom_up, top_down)

    def steer(self, bottom_up: Projections, top_down: Steered) -> Projections:
        return bottom_up._replace(values=bottom_up.values + top_down.tokens)

    def attend(self, projections: Projections) -> Tensor:
        maps = projections.values.mT.unflatten(-1, self.grid).unsqueeze(2)
        kernel = torch.view_as_complex(self.complex_weight).permute(2, 0, 1)[:, None, None]
        return filtered(maps, kernel).flatten(2).mT

    def weights(self, projections: Projections, queries: slice = slice(None)) -> Tensor:
        raise NotImplementedError("a global filter has no attention weights")
