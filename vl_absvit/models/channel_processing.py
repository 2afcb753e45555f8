"""The channel attention of FAN: a feed-forward part whose channels are weighed against each other, per image.

Zhou et al., "Understanding the Robustness in Vision Transformers", ICML 2022 [FAN].
Shapes: B images, N tokens of a grid, D width, E hidden width, H heads.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vl_absvit.models.token_norms import MapBatchNorm


def channel_gates(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    """sigmoid(sum_n softmax_n(q)_{n,c} kbar_n) * temperature_h, kbar the head's mean over channels of softmax_n(k).

    Both softmaxes run over tokens, so that there is one gate per image and channel.

    Args:
        queries, keys: (B, N, H, D / H).
        temperature: (H, 1).

    Returns:
        (B, H, D / H).
    """
    of_tokens = keys.softmax(dim=1).mean(dim=-1)  # (B, N, H)
    return torch.einsum("bnhc,bnh->bhc", queries.softmax(dim=1), of_tokens).sigmoid() * temperature


class DepthwisePair(nn.Module):
    """Two depthwise convolutions, with a GELU and a batch norm between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(2))
        self.bn, self.act = MapBatchNorm(width), nn.GELU()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps to maps, (B, E, rows, columns)."""
        return self.conv2(self.bn(self.act(self.conv1(maps))))


class ConvolvedMlp(nn.Module):
    """fc2(gamma * convolutions(fc1(x)) + fc1(x)), without another activation."""

    def __init__(self, in_features: int, hidden_features: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.fc1, self.fc2 = nn.Linear(in_features, hidden_features), nn.Linear(hidden_features, in_features)
        self.dwconv, self.gamma = DepthwisePair(hidden_features), nn.Parameter(torch.ones(hidden_features))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        hidden = self.fc1(tokens)
        convolved = self.dwconv(hidden.mT.unflatten(-1, self.grid)).flatten(2).mT
        return self.fc2(self.gamma * convolved + hidden)


class ChannelProcessing(nn.Module):
    """``channel_gates`` times the normed output of ``ConvolvedMlp``. The tokens themselves are the keys.

    Args:
        num_heads: H.
        grid: rows and columns of the tokens.
        others: those that timm's block gives to any MLP; they have no effect.
    """

    def __init__(
        self, in_features: int, hidden_features: int, *, num_heads: int, grid: tuple[int, int], **others: Any
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.q = nn.Linear(in_features, in_features)
        self.mlp_v = ConvolvedMlp(in_features, hidden_features, grid=grid)
        self.norm_v = nn.LayerNorm(in_features)  # its epsilon is 1e-5, unlike that of the block's norms

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        queries, keys = (x.unflatten(-1, (self.num_heads, -1)) for x in (self.q(tokens), tokens))
        gates = channel_gates(queries, keys, self.temperature[..., 0])
        return gates.flatten(1).unsqueeze(1) * self.norm_v(self.mlp_v(tokens))
