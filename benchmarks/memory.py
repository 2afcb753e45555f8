"""Bytes of activations: what a forward pass keeps for the backward pass, and what a side holds at most on a CPU."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

from vl_absvit.planning.tally import Tally

RESHAPED = ("ToCopyBackward0", "TBackward0", "SliceBackward0")
"""What autograd calls the ways in which a parameter is cast, transposed and cut before it is used."""


def kept_for_backward(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes of all storages that autograd keeps after ``forward``, each counted once.

    Those of parameters do not count, nor do the copies in bf16 that autocast makes of them. Tensors that share a
    storage, such as views, share its bytes; a kept slice keeps the whole.
    """
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, torch.UntypedStorage] = {}  # the storages themselves, so that no address is used twice
    copies: dict[int, torch.UntypedStorage] = {}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            (copies if _is_parameter(tensor.grad_fn) else kept)[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(see, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in copies)


def _is_parameter(made_by: Node | None) -> bool:
    """Whether a tensor is a parameter, or a part of one, in another form."""
    while made_by is not None and made_by.name() in RESHAPED:
        ((made_by, _),) = made_by.next_functions
    return hasattr(made_by, "variable")  # of a leaf, for which gradients are kept


class MemoryCounter:
    """Bytes of the tensors that stages make and hold, those of one turn's earlier stages included; CPU only.

    Attributes:
        peak_bytes: the most that was there at a time, by stage.
    """

    def __init__(self) -> None:
        self.peak_bytes: dict[Hashable, int] = {}
        self._tally = Tally()

    def begin_turn(self) -> None:
        """Whatever is there from now on belongs to others."""
        self._tally = Tally()

    @contextmanager
    def stage(self, name: Hashable) -> Iterator[None]:
        """Watch one stage."""
        self._tally.peak = self._tally.live
        with self._tally:
            yield
        self.peak_bytes[name] = max(self._tally.peak, self.peak_bytes.get(name, 0))
