"""The feed-forward part of RVT: two pointwise layers with a depthwise convolution between them.

Mao et al., "Towards Robust Vision Transformer", CVPR 2022. Shapes: B images, N tokens of a grid, D and E widths.
"""

from typing import Any

from torch import Tensor, nn

from vl_absvit.models.token_norms import MapBatchNorm


class ConvMlp(nn.Module):
    """Convolution 1x1, BN, GELU, depthwise 3x3, BN, GELU, 1x1, BN on the tokens' grid.

    Args:
        in_features: D.
        hidden_features: E.
        grid: rows and columns of the tokens.
        bias: of all three layers.
        drop: dropout rate of the output.
        others: those that timm's block gives to any MLP; they have no effect.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        grid: tuple[int, int],
        bias: bool = True,
        drop: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__()
        wide = hidden_features
        self.grid = grid
        self.fc1, self.bn1 = nn.Conv2d(in_features, wide, 1, bias=bias), MapBatchNorm(wide)
        self.dwconv, self.bn2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=bias), MapBatchNorm(wide)
        self.fc2, self.bn3 = nn.Conv2d(wide, in_features, 1, bias=bias), MapBatchNorm(in_features)
        self.act, self.drop = nn.GELU(), nn.Dropout(drop)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        maps = tokens.mT.unflatten(-1, self.grid)
        maps = self.act(self.bn1(self.fc1(maps)))
        maps = self.act(self.bn2(self.dwconv(maps)))
        return self.drop(self.bn3(self.fc2(maps))).flatten(2).mT
