"""Batch norms over the batches of all processes, on GPUs and on CPUs. Shapes: I images of a process, D channels."""

import torch
from torch import Tensor, nn

from vl_absvit.distributed import sum_with_grad, world_size
from vl_absvit.precision import at_least_fp32


def normed_by_all(model: nn.Module) -> None:
    """Put norms of all processes' batches in place of a model's batch norms; weights and their names stay."""
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = GlobalBatchNorm


class GlobalBatchNorm(nn.SyncBatchNorm):
    """PyTorch's norm of all processes' batches, which refuses CPUs, and the same there. All have as many images."""

    def forward(self, input: Tensor) -> Tensor:
        """(I, D, height, width) to the same."""
        if input.is_cuda or not self.training or world_size() == 1:
            return super().forward(input)
        x = at_least_fp32(input)
        dims, total = (0, 2, 3), world_size() * input.numel() // input.shape[1]
        mean = sum_with_grad(x.sum(dims)) / total
        centred = x - _per_channel(mean)
        variance = sum_with_grad(centred.square().sum(dims)) / total
        self._keep(mean.detach(), variance.detach() * total / (total - 1))
        normed = centred * _per_channel(torch.rsqrt(variance + self.eps))
        return (normed * _per_channel(self.weight) + _per_channel(self.bias)).to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the statistics for evaluation towards those of a batch."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None, "statistics are tracked"
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
