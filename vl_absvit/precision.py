"""What fp32 and bf16 mean, for training and for whatever else runs a model: decided here alone.

Weights, gradients and optimizer states are fp32. In bf16 the forward pass runs under autocast, which takes matrix
products in bf16. What is compared (similarities, losses, scores) is fp32 either way: of bf16's eight bits many would
tie.

On a GPU fp32 means fp32: products and convolutions do not round their inputs to TF32's ten bits, unless in bf16, where
what stays fp32 may do so.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from vl_absvit.config import Precision

DESCRIPTIONS: dict[Precision, str] = {"fp32": "fp32", "bf16": "bf16 over fp32 weights"}
"""By what the parts of an interrupted evaluation are told apart; once, bf16 was that of the weights."""
P, R = ParamSpec("P"), TypeVar("R")


def arithmetic(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Inside, forward passes on ``device`` compute as ``precision`` says, whatever holds outside.

    Autocast keeps what it casts of a parameter until the outermost of such contexts ends: a context holds passes
    without gradient or one with gradient, never both, and no optimizer step. Backward passes belong outside, for under
    autocast they take the products of an fp32 forward pass in bf16.
    """
    if device.type == "cuda":  # for the backward passes, too, which come after this has ended
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "bf16"
    return _autocast(device.type, enabled=precision == "bf16")


def always_fp32(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function of tensors compute in fp32 (or fp64, where that is what comes), under autocast, too."""

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(each.device for each in chain(args, kwargs.values()) if isinstance(each, Tensor))
        with _autocast(device.type, enabled=False), _without_tf32(device.type):
            return function(*map(_widened, args), **{name: _widened(each) for name, each in kwargs.items()})

    return exact


def at_least_fp32(tensor: Tensor) -> Tensor:
    """A floating-point tensor in fp32, or in fp64 where that is what comes."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def as_products_take(parameter: Tensor) -> Tensor:
    """A parameter as autocast gives it to a product: cast once, where its slices would be cast one by one."""
    device_type = parameter.device.type
    is_cast = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    if not is_cast or parameter.dtype != torch.float32:
        return parameter
    return parameter.to(torch.get_autocast_dtype(device_type))


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, products are taken in the precision of what comes."""
    return _autocast(device.type, enabled=False)


def _autocast(device_type: str, enabled: bool) -> AbstractContextManager:
    if not torch.amp.is_autocast_available(device_type):  # as for tensors without content
        return nullcontext()
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled)


def _without_tf32(device_type: str) -> AbstractContextManager:
    """Products of fp32 tensors on a GPU in whole fp32; compiled code, in which nothing is compared, keeps TF32."""
    return _whole_products() if device_type == "cuda" and not torch.compiler.is_compiling() else nullcontext()


@contextmanager
def _whole_products() -> Iterator[None]:
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, False
    try:
        yield
    finally:
        products.allow_tf32 = before


def _widened(value: Any) -> Any:
    return at_least_fp32(value) if isinstance(value, Tensor) and value.is_floating_point() else value
