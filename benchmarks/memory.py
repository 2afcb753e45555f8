"""Bytes of activations: what a forward pass keeps for the backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

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
