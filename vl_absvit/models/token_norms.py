"""Batch norms of tokens and maps, which stand still where they are frozen, and count a pass once.

Shapes: B rows, N tokens, D channels.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch.nn.functional as F
from torch import Tensor, nn

_in_this_thread = threading.local()


def follows_batches() -> bool:
    """Whether statistics follow what is computed now, rather than that ``statistics_kept`` holds."""
    return not getattr(_in_this_thread, "keeps", False)


@contextmanager
def statistics_kept() -> Iterator[None]:
    """Inside, batch norms that learn use the statistics of their batch, and keep the running ones as they are.

    It is for a pass that is computed a second time, before or after the one that counts.
    """
    before, _in_this_thread.keeps = not follows_batches(), True
    try:
        yield
    finally:
        _in_this_thread.keeps = before


def recomputing() -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of a pass and of its recomputation, for ``torch.utils.checkpoint``."""
    return nullcontext(), statistics_kept()


class StillWhenFrozen(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose statistics neither follow the batch nor are its own while its scale does not learn."""

    def forward(self, input: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        learns = self.training and self.weight.requires_grad
        if learns and follows_batches():
            return super().forward(input)
        if learns and mean is not None and variance is not None:  # copies follow the batch in their place
            mean, variance = mean.clone(), variance.clone()
        return F.batch_norm(input, mean, variance, self.weight, self.bias, training=learns, eps=self.eps)


class MapBatchNorm(StillWhenFrozen, nn.BatchNorm2d):
    """Of maps (B, D, rows, columns)."""


class TokenBatchNorm(StillWhenFrozen, nn.BatchNorm1d):
    """Of tokens (B, N, D)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.mT).mT
