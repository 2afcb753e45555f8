"""Batch norms over the batches of all processes, on any device.

PyTorch's ``SyncBatchNorm`` refuses CPUs, and its conversion drops what a norm does beside the formula: that it stands
still while it is frozen, that a pass computed twice counts once, and where its channels are.
Shapes: I images of a process, D channels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vl_absvit.distributed import sum_over_processes, world_size
from vl_absvit.models.token_norms import MapBatchNorm, StillWhenFrozen, TokenBatchNorm, follows_batches
from vl_absvit.precision import at_least_fp32


def normed_by_all(model: nn.Module) -> None:
    """Have a model's batch norms take the batches of all processes for one; weights and their names stay."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = _OF_ALL[type(module)]


class _OfAll(StillWhenFrozen):
    """Norms the batches of all processes together. All have as many images."""

    def forward(self, input: Tensor) -> Tensor:
        """(I, D, ...) to the same."""
        if not (self.training and self.weight.requires_grad):
            return super().forward(input)
        normed, mean, variance = _Normed.apply(input, self.weight, self.bias, self.eps)
        if follows_batches():
            number = world_size() * input.numel() // input.shape[1]
            self._keep(mean, variance * number / (number - 1))
        return normed

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the statistics for evaluation towards those of a batch."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None, "statistics are tracked"
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class _MapsOfAll(MapBatchNorm, _OfAll):
    """Of maps (I, D, rows, columns)."""


class _TokensOfAll(TokenBatchNorm, _OfAll):
    """Of tokens (I, N, D)."""


_OF_ALL: dict[type, type] = {MapBatchNorm: _MapsOfAll, TokenBatchNorm: _TokensOfAll}


class _Normed(torch.autograd.Function):
    """The norm of all processes' batches, with their mean and (biased) variance, (D,) each, in at least fp32.

    It keeps its input alone, in the precision that it has, as PyTorch's own does. Gradients of weight and bias are
    those of this process's images, which DDP averages over processes as all others.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        x, dims, number = at_least_fp32(input), _all_but_channels(input), world_size() * input.numel() // input.shape[1]
        mean = sum_over_processes(x.sum(dims)) / number
        variance = sum_over_processes((x - _wide(mean, x)).square().sum(dims)) / number
        rate = torch.rsqrt(variance + eps)
        ctx.save_for_backward(input, weight, mean, rate)
        ctx.mark_non_differentiable(mean, variance)
        normed = (x - _wide(mean, x)) * _wide(rate * weight, x) + _wide(bias, x)
        return normed.to(input.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: None) -> tuple[Tensor, Tensor, Tensor, None]:
        input, weight, mean, rate = ctx.saved_tensors
        x, g, dims = at_least_fp32(input), at_least_fp32(gradient), _all_but_channels(input)
        number = world_size() * input.numel() // input.shape[1]
        z = (x - _wide(mean, x)) * _wide(rate, x)
        of_bias, of_weight = g.sum(dims), (g * z).sum(dims)
        mean_g, mean_gz = (sum_over_processes(part) / number for part in (of_bias, of_weight))
        of_input = (g - _wide(mean_g, x) - z * _wide(mean_gz, x)) * _wide(rate * weight, x)
        return of_input.to(input.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """One value of each channel, (D,), beside (I, D, ...)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
