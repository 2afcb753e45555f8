"""Performer: softmax attention with random features in place of the exponential, in time linear in the tokens.

Choromanski et al., "Rethinking Attention with Performers", ICLR 2021; ``perf`` in the release of [VARS].
Shapes: B images, H heads, N tokens, d width of a head, m = 2 d features.
"""

from typing import Any

import torch
from torch import Tensor

from vl_absvit.models.attention.random_features import features_up_to_scale
from vl_absvit.models.attention.softmax import Projections, TopDownAttention

FEATURES_PER_CHANNEL = 2


def linear_attention(phi_q: Tensor, phi_k: Tensor, values: Tensor) -> Tensor:
    """phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k)_n): the rows of phi(q) phi(k)^T over their sums, times v.

    Args:
        phi_q, phi_k: positive features, (B, H, N, m).
        values: (B, H, N, d).

    Returns:
        (B, H, N, d).
    """
    of_all = phi_k.sum(dim=-2, keepdim=True).mT  # (B, H, m, 1)
    return phi_q @ (phi_k.mT @ values) / (phi_q @ of_all)


class Performer(TopDownAttention):
    """Attention with the parameters of softmax's, and a fixed Gaussian matrix for queries and keys."""

    rand_matrix: Tensor  # (H, d, m)

    def __init__(self, dim: int, num_heads: int = 8, **others: Any) -> None:
        super().__init__(dim, num_heads, **others)
        width = dim // num_heads
        self.register_buffer("rand_matrix", torch.randn(num_heads, width, FEATURES_PER_CHANNEL * width))

    def attend(self, projections: Projections) -> Tensor:
        values = self._split_heads(projections.values)
        if self.training and self.attn_drop.p:  # dropout is of weights, so these are made
            mixed = self.attn_drop(self.weights(projections)) @ values
        else:
            mixed = linear_attention(*self._features(projections), values)
        return self.merge(mixed)

    def weights(self, projections: Projections, queries: slice = slice(None)) -> Tensor:
        phi_q, phi_k = self._features(projections)
        weights = phi_q[:, :, queries] @ phi_k.mT
        return weights / weights.sum(dim=-1, keepdim=True)

    def _features(self, projections: Projections) -> tuple[Tensor, Tensor]:
        """Features of queries and keys, (B, H, N, m) each, up to a factor."""
        q, k = self._queries_and_keys(projections)
        return features_up_to_scale(q, self.rand_matrix), features_up_to_scale(k, self.rand_matrix)
