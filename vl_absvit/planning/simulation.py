"""Simulated settings for tensors without content on a CPU: the kernels of a GPU, or several processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vl_absvit import distributed

aten = torch.ops.aten


@contextmanager
def cuda_kernels() -> Iterator[None]:
    """Attention and dropout by the kernels that PyTorch chooses on a GPU, for fake tensors of the CPU.

    Flash attention takes bf16 without a mask, the memory-efficient kernel everything else; neither keeps the attention
    weights. Dropout keeps one byte per element.
    """
    # A mode for torch functions would not do: it is left in the backward pass, where checkpointed blocks run again.
    with replaced(F, scaled_dot_product_attention=_attention, dropout=_dropout):
        yield


@contextmanager
def one_of(processes: int) -> Iterator[None]:
    """Collectives gather as many copies of this process's tensors and objects as there are processes."""
    with replaced(distributed, dist=_Copies(processes), _between_hosts=lambda: None):
        yield


@contextmanager
def replaced(owner: Any, **names: object) -> Iterator[None]:
    """Inside, attributes of a module or class have these values."""
    real = {name: getattr(owner, name) for name in names}
    try:
        for name, value in names.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in real.items():
            setattr(owner, name, value)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **options: Any
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    scale = options.get("scale")
    if attn_mask is None and query.dtype == torch.bfloat16:
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, False, scale=scale)[0]
    bias = None if attn_mask is None else attn_mask.to(query.dtype)
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, dropout_p, scale=scale)[0]


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p else input


class _Copies:
    """The part of ``torch.distributed`` that gathers and reduces, as the first of several like processes sees it."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self) -> int:
        return self._processes

    def get_rank(self) -> int:
        return 0

    def all_gather(self, parts: list[Tensor], local: Tensor) -> None:
        for index in range(len(parts)):
            parts[index] = local.clone()

    def all_reduce(self, tensor: Tensor) -> None:
        pass

    def all_gather_object(self, parts: list, local: object, group: None = None) -> None:
        parts[:] = [local] * len(parts)
