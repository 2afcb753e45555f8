"""Moments at which the host waits for a CUDA device, counted where there is one and where there is none.

Without a device, tensors claim to be on one and hold nothing (fake tensors): what would read them, or copy between them
and the host, is seen and counted, and an operation on tensors of different devices is an error, as there.
"""

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils import import_utils

from vl_absvit.planning.simulation import replaced

aten = torch.ops.aten

Waits = Counter[str]
"""How often, by place in the code."""

_PACKAGES = ("vl_absvit", "transformers", "timm", "accelerate")
_READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default)
_INDEXES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


@contextmanager
def fake_cuda() -> Iterator[Waits]:
    """In it, tensors on ``cuda`` are fake, and what is read of them is 0. Gives the waits, which grow meanwhile."""
    waits: Waits = Counter()

    def tolist(tensor: Tensor) -> list:  # one copy, where a fake tensor is asked for number after number
        if tensor.is_cuda:
            waits[_place()] += 1
        return np.zeros(tensor.shape, dtype=int).tolist()

    with (
        replaced(torch.autograd, _engine_run_backward=run_backward),
        replaced(torch.cuda, get_rng_state=lambda device: None, set_rng_state=lambda state, device: None),
        replaced(torch.cuda, is_bf16_supported=lambda: True),
        replaced(torch.cuda.amp.common, amp_definitely_not_available=lambda: False),
        replaced(FakeTensor, tolist=tolist),
        replaced(import_utils, is_fake_tensor=lambda tensor: False),  # transformers asks fake tensors for less
        FakeTensorMode(allow_non_fake_inputs=True),
        _Operations(waits),
        _Arrays(),
    ):
        yield waits


@contextmanager
def real_cuda() -> Iterator[Waits]:
    """On a real device: gives the waits as PyTorch tells them, complete when the block has ended."""
    waits: Waits = Counter()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            waits[f"{Path(warning.filename).name}:{warning.lineno}"] += 1


class _Operations(TorchDispatchMode):
    """Counts the operations that wait, and answers those that a fake tensor cannot."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is aten.is_pinned.default:
            return False
        if func is aten._pin_memory.default:  # pinned memory needs a device
            return args[0].clone()
        if _waits(func, args, kwargs):
            self._waits[_place()] += 1
        if func is aten._local_scalar_dense.default and getattr(args[0], "constant", None) is None:
            return 0
        if func is aten.equal.default:
            return False
        if func is aten.nonzero.default:  # as if all were nonzero
            return args[0].new_zeros(args[0].numel(), args[0].ndim, dtype=torch.long)
        if func in _INDEXES:
            args = (args[0], [_as_rows(index) for index in args[1]], *args[2:])
        return func(*args, **kwargs)


class _Arrays(TorchFunctionMode):
    """Gives what fake tensors refuse, an array, of zeros."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.numpy and type(args[0]) is not Tensor:
            return np.zeros(args[0].shape, dtype=str(args[0].dtype).removeprefix("torch."))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def run_backward(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor],
    keep_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor] = (),
    *_: Any,
    **__: Any,
) -> tuple[Tensor | None, ...]:
    """What PyTorch's engine does, which needs a device for nodes of one: every node once, after all that lead to it.

    Returns:
        Gradients of the ``inputs``.
    """
    assert not create_graph
    edges = [torch.autograd.graph.get_gradient_edge(each) for each in inputs]
    starts = [torch.autograd.graph.get_gradient_edge(each) for each in roots]
    uses: Counter[Any] = Counter()  # of a node by others, that are still to come
    found: list[Any] = [edge.node for edge in starts]
    seen = set()
    while found:
        node = found.pop()
        if node not in seen:
            seen.add(node)
            following = [each for each, _ in node.next_functions if each is not None]
            uses.update(following)
            found += following
    arrived: dict[Any, list[Tensor | None]] = defaultdict(list)
    for edge, gradient in zip(starts, gradients, strict=True):
        _arrive(arrived[edge.node], edge.node, edge.output_nr, gradient)
    ready: list[Any] = [edge.node for edge in starts if not uses[edge.node]]
    of_inputs: list[Tensor | None] = [None] * len(edges)
    while ready:
        node = ready.pop()
        known = arrived.pop(node, [])
        known += [None] * (len(node._input_metadata) - len(known))
        for place, edge in enumerate(edges):
            if edge.node is node:
                of_inputs[place] = known[edge.output_nr]
        is_leaf = not node.next_functions
        given: Any = ()
        if any(each is not None for each in known) and not (inputs and is_leaf):
            given = (node if callable(node) else node.apply)(*known)  # Python's have ``apply`` alone, tensors first
        given = given if isinstance(given, tuple) else (given,)
        for number, (following, output) in enumerate(node.next_functions):
            if following is None:
                continue
            if number < len(given) and given[number] is not None:
                _arrive(arrived[following], following, output, given[number])
            uses[following] -= 1
            if not uses[following]:
                ready.append(following)
    return tuple(of_inputs)


def _arrive(known: list[Tensor | None], node: Any, place: int, gradient: Tensor) -> None:
    gradient = gradient.sum_to_size(node._input_metadata[place].shape)  # where the forward pass repeated something
    known += [None] * (place + 1 - len(known))
    before = known[place]
    known[place] = gradient if before is None else before + gradient


def _waits(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Whether an operation makes the host wait; copies to the device do unless they are told not to."""
    if func in _READS:
        return args[0].is_cuda
    if func in _INDEXES:  # a mask is counted first; an index on the host is copied
        return args[0].is_cuda and any(index is not None and (_is_mask(index) or index.is_cpu) for index in args[1])
    if func is aten._to_copy.default:
        target = torch.device(kwargs.get("device") or args[0].device)
        is_blocking = not kwargs.get("non_blocking", False)
        return target.type != args[0].device.type and (is_blocking or target.type == "cpu")
    if func is aten.copy_.default:
        is_blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        return args[0].device.type != args[1].device.type and args[1].ndim > 0 and is_blocking
    return func is aten.repeat_interleave.Tensor and args[0].is_cuda and kwargs.get("output_size") is None


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _as_rows(index: Tensor | None) -> Tensor | None:
    """A mask as the indices of all its elements, where it has one dimension."""
    if index is None or not _is_mask(index):
        return index
    return torch.zeros(index.numel(), dtype=torch.long, device=index.device)


def _place() -> str:
    """File and line of the innermost frame that belongs to the project or to a library that it calls."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if set(path.parts) & set(_PACKAGES):
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
