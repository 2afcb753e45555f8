"""Collectives: the only place that talks to ``torch.distributed``.

Without a process group every function is the identity.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


class _AllGather(torch.autograd.Function):
    """Equally shaped tensors of all ranks, one below the other.

    A row's gradient is summed over the ranks that used it.
    """

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_with_grad(local: Tensor) -> Tensor:
    """Rows of every rank, in rank order; ranks may hold different numbers of rows.

    Gradients flow back to the rank that owns a row, summed over the ranks that used it: where every rank computes the
    same loss of all rows, DDP's mean over ranks turns the parameters' gradient into that of one process with the full
    batch.
    """
    if world_size() == 1:
        return local
    count = torch.tensor([len(local)], device=local.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    counts = [int(c) for c in counts]
    padding = local.new_zeros(max(counts) - len(local), *local.shape[1:])
    gathered = _AllGather.apply(torch.cat([local, padding])).chunk(world_size())
    return torch.cat([rows[:n] for rows, n in zip(gathered, counts, strict=True)])


def gather_objects(local: list[Any]) -> list[Any]:
    """Items of every rank, in rank order."""
    if world_size() == 1:
        return local
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, local)
    return [item for part in parts for item in part]


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over all ranks, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()
