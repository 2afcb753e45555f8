"""Batch norms of tokens and maps, which stand still where they are frozen.

Shapes: B rows, N tokens, D channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class _StillWhenFrozen(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose statistics neither follow the batch nor are its own while its scale does not learn."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.weight.requires_grad:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class MapBatchNorm(_StillWhenFrozen, nn.BatchNorm2d):
    """Of maps (B, D, rows, columns)."""


class TokenBatchNorm(_StillWhenFrozen, nn.BatchNorm1d):
    """Of tokens (B, N, D)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.mT).mT
