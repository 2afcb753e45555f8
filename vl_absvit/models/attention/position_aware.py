"""Attention with position-aware scaling, of RVT's own variant (``plus``).

Mao et al., "Towards Robust Vision Transformer", CVPR 2022, section 3.3. Shapes: B images, H heads, N tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vl_absvit.models.attention.softmax import Projections, TopDownAttention


class PositionAwareAttention(TopDownAttention):
    """Softmax attention whose logits are multiplied by sigmoid(``att_mask``), a factor per head and pair of places.

    The release leaves the mask's start to chance; here all factors start at one half.

    Args:
        grid: rows and columns of the tokens.
        others: as timm's attention.
    """

    needs_grid = True

    def __init__(self, dim: int, num_heads: int = 8, *, grid: tuple[int, int], **others: Any) -> None:
        super().__init__(dim, num_heads, **others)
        tokens = grid[0] * grid[1]
        self.att_mask = nn.Parameter(torch.zeros(num_heads, tokens, tokens))

    def attend(self, projections: Projections) -> Tensor:
        weights = self.attn_drop(self.weights(projections))
        return self.merge(weights @ self._split_heads(projections.values))

    def weights(self, projections: Projections, queries: slice = slice(None)) -> Tensor:
        q, k = self._queries_and_keys(projections)
        logits = q[:, :, queries] @ k.mT * self.scale
        return (logits * self.att_mask[:, queries].sigmoid()).softmax(dim=-1)
