"""Collectives: the only place that talks to ``torch.distributed``.

Without a process group every function is the identity. Host objects, such as each rank's number of rows, are exchanged
between hosts, so that no host waits for its device.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=2)
"""Longest wait for another process. The main one may save or score for longer than the libraries' 10 minutes."""

_HOST_GROUPS: dict["dist.ProcessGroup", "dist.ProcessGroup"] = {}
"""Default group -> its group between hosts; at most one."""


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


class _AllGather(torch.autograd.Function):
    """Concatenates tensors of one shape from all ranks. A row's gradient is summed over all ranks."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_with_grad(local: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """Rows of every rank, in rank order. Ranks may hold different numbers of rows.

    Gradients flow back to the rank that owns a row, summed over all ranks. If every rank computes the same loss of all
    rows, DDP's mean over ranks makes the parameters' gradient that of one process with the full batch.

    Args:
        rows: number of rows of each rank; None asks the ranks.
    """
    if world_size() == 1:
        return local
    if rows is None:
        rows = gather_objects([len(local)])
    padding = local.new_zeros(max(rows) - len(local), *local.shape[1:])
    gathered = _AllGather.apply(torch.cat([local, padding])).chunk(world_size())
    return torch.cat([part[:count] for part, count in zip(gathered, rows, strict=True)])


def sum_over_processes(local: Tensor) -> Tensor:
    """The sum of a tensor over all processes, on its device, without gradient. No host waits for it."""
    total = local.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def is_true_anywhere(local: bool) -> bool:
    """Whether any process says so. The hosts exchange one number, a tenth of the work of ``gather_objects``."""
    said = torch.tensor([local], dtype=torch.int32)
    if world_size() > 1:
        dist.all_reduce(said, op=dist.ReduceOp.MAX, group=_between_hosts())
    return bool(said)


def gather_objects(local: list[Any]) -> list[Any]:
    """Items of every rank, in rank order."""
    if world_size() == 1:
        return local
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, local, group=_between_hosts())
    return [item for part in parts for item in part]


def take_from_main(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors in host memory with the main process's content, in every process."""
    if world_size() == 1:
        return
    for tensor in tensors:
        dist.broadcast(tensor, src=0, group=_between_hosts())


def make_together(number: int, make: Callable[[range], Tensor]) -> Tensor:
    """Rows of a tensor in host memory, of which every process makes a part and takes the others' from them.

    Args:
        number: of rows, at least one per process.
        make: gives some rows. All processes agree on their shape.
    """
    bounds = [number * each // world_size() for each in range(world_size() + 1)]
    own = make(range(bounds[rank()], bounds[rank() + 1]))
    if world_size() == 1:
        return own
    rows = own.new_empty(number, *own.shape[1:])
    for maker, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        part = own if maker == rank() else rows[start:end]
        dist.broadcast(part, src=maker, group=_between_hosts())
        rows[start:end] = part
    return rows


def _between_hosts() -> "dist.ProcessGroup | None":
    """A group of all processes for data in host memory; None if the default group serves."""
    usual = dist.group.WORLD
    if dist.get_backend() == dist.Backend.GLOO:
        return None
    assert usual is not None, "several processes have a group"
    if usual not in _HOST_GROUPS:
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup), "every process is a member of the group"
        _HOST_GROUPS.clear()
        _HOST_GROUPS[usual] = group
    return _HOST_GROUPS[usual]
