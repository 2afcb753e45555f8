"""Cross-attention with few tokens on one side. The projections of the long side are folded into the short one.

Scores are x_q W_q^T (x_k W_k^T)^T, so the short side can be multiplied by both matrices. The same holds for values and
the output projection. The results are those of plain attention; the matrix work per token of the long side falls from
2 D^2 to 2 D x (tokens of the short side) x H. Shapes: B rows, S queries, C context tokens, H heads, D width.
"""

from typing import Protocol

import torch
from torch import Tensor, nn


class Projected(Protocol):
    """The linear layers of an attention module."""

    num_heads: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear


def is_short(tokens: int, num_heads: int, width: int) -> bool:
    """Whether folding saves at least half of the long side's projections."""
    return 2 * tokens * num_heads <= width


def attend_from_few(layer: Projected, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of few queries ``x`` (B, S, D) to ``context`` (B, C, D): (B, S, D).

    Args:
        mask: True at real context tokens, (B, 1, 1, C); None means that all are real.
    """
    heads = layer.num_heads
    queries = layer.query(x).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, S, D/H)
    # The key's bias adds the same number to all scores of a query, which does not change the softmax.
    folded = queries @ layer.key.weight.unflatten(0, (heads, -1)) * queries.shape[-1] ** -0.5  # (B, H, S, D)
    scores = (folded.flatten(1, 2) @ context.mT).unflatten(1, (heads, -1))  # (B, H, S, C)
    weights = _softmax(scores, mask)
    gathered = (weights.flatten(1, 2) @ context).unflatten(1, (heads, -1))  # (B, H, S, D)
    values = gathered @ layer.value.weight.unflatten(0, (heads, -1)).mT  # (B, H, S, D/H)
    return layer.out(values.transpose(1, 2).flatten(2) + layer.value.bias)  # the weights of a query sum to 1


def attend_to_few(layer: Projected, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of ``x`` (B, S, D) to few tokens of ``context`` (B, C, D): (B, S, D). ``mask`` as above."""
    heads = layer.num_heads
    keys, values = (
        linear(context).unflatten(-1, (heads, -1)).transpose(1, 2) for linear in (layer.key, layer.value)
    )  # 2 x (B, H, C, D/H)
    keys = keys * keys.shape[-1] ** -0.5
    folded_keys = (keys @ layer.query.weight.unflatten(0, (heads, -1))).flatten(1, 2)  # (B, H * C, D)
    offsets = (keys @ layer.query.bias.view(heads, -1, 1)).flatten(1)  # (B, H * C), the queries' bias on every key
    scores = torch.baddbmm(offsets.unsqueeze(1), x, folded_keys.mT).unflatten(-1, (heads, -1))  # (B, S, H, C)
    weights = _softmax(scores, mask).flatten(2)  # (B, S, H * C)
    per_head = layer.out.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (H, D/H, D)
    return torch.baddbmm(layer.out.bias, weights, (values @ per_head).flatten(1, 2))


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Weights over the last dimension, computed in fp32 or better."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
