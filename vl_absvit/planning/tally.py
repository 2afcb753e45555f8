"""Memory and operations of a computation, counted without computing it.

Everything runs on fake tensors, which have shapes and types and no content, through the same code as a real run.
"""

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vl_absvit.planning.flops import flop_counter

aten = torch.ops.aten


class Tally(TorchDispatchMode):
    """Counts what runs inside. Asked for the content of a fake tensor, it gives 0 or False.

    Args:
        resident: tensors that exist already and are not counted.

    Attributes:
        live: bytes of all storages made since that are still alive.
        peak: the most there were at a time.
        flops: floating-point operations as ``FlopCounterMode`` counts them: two per multiply-add of matrix products,
            convolutions and attention, those that a backward pass computes once more included.
    """

    def __init__(self, resident: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = self.flops = 0
        self._formulas = flop_counter().flop_registry
        self._resident = [tensor.untyped_storage() for tensor in resident]  # kept, so that no other takes their place
        self._known: dict[int, torch.UntypedStorage | weakref.ref[torch.UntypedStorage]] = {
            storage._cdata: storage for storage in self._resident
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor) and args[0].constant is None:
            return 0
        out = func(*args, **kwargs)
        if func is not torch.ops.prim.device.default:
            for value in tree_leaves(out):
                if isinstance(value, Tensor):
                    self._see(value.untyped_storage())
            if func._overloadpacket in self._formulas:
                self.flops += self._formulas[func._overloadpacket](*args, **kwargs, out_val=out)
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_: weakref.ref) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


class Rehearsed:
    """A function that runs in the first and the last of several like calls.

    Between them it gives new tensors of the same shapes, and the operations are counted as if it had run.
    """

    def __init__(self, function: Callable[..., Any], tally: Tally, calls: int) -> None:
        self._function, self._tally, self._left = function, tally, calls
        self._made: Any = None  # what makes an output
        self._flops = 0  # of one call

    def __call__(self, *args: Any) -> Any:
        self._left -= 1
        if self._made is not None and self._left:
            self._tally.flops += self._flops
            return tree_map(lambda make: make(), self._made)
        before = self._tally.flops
        out = self._function(*args)
        self._flops = self._tally.flops - before
        self._made = tree_map(_maker, out)
        return out


def _maker(value: Any) -> Callable[[], Any]:
    if isinstance(value, Tensor):
        return partial(torch.empty, value.shape, dtype=value.dtype)
    return lambda: value
