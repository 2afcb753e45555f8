"""The meaning of fp32, bf16 and int8 for everything that runs a model.

Weights, gradients and optimizer states are fp32. In bf16 the forward pass runs under autocast, which computes matrix
products in bf16. In int8, which is for evaluation on a CPU, linear layers are products of 8-bit integers and all else
is fp32. Numbers that are compared (similarities, losses, scores) are fp32 in all, because many would be equal in bf16's
eight bits.

On a GPU, products and convolutions in fp32 do not round their inputs to TF32's ten bits. In bf16, the operations that
stay fp32 may do so.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from vl_absvit.config import EvaluationPrecision
from vl_absvit.distributed import is_main
from vl_absvit.int8 import check_int8, int8_products

DESCRIPTIONS: dict[EvaluationPrecision, str] = {
    "fp32": "fp32",
    "bf16": "bf16 over fp32 weights",
    "int8": "linear layers in int8 over fp32 weights",
}
"""Names in the requests of interrupted evaluations. An earlier version had bf16 weights, which these names exclude."""
log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


def arithmetic(precision: EvaluationPrecision, device: torch.device) -> AbstractContextManager:
    """Inside, forward passes on ``device`` compute in this precision, whatever holds outside.

    Autocast keeps its casts of parameters until the outermost such context ends. So a context holds passes without
    gradient, or one with gradient, but not both, and no optimizer step. Backward passes belong outside: under autocast
    they would compute the products of an fp32 forward pass in bf16.

    Raises:
        ConfigError: the device does not compute in int8.
    """
    check_precision(precision, device)
    if device.type == "cuda":  # it holds for the backward passes, too, which come after the context
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "bf16"
    return _products(device.type, bf16=precision == "bf16", int8=precision == "int8")


def check_precision(precision: EvaluationPrecision, device: torch.device) -> None:
    """Complain of a precision that a device does not compute in, before anything is begun.

    A CPU that computes in bf16, but slowly, is told of once.

    Raises:
        ConfigError: it is int8, and the device is not for that.
    """
    if precision == "int8":
        check_int8(device)
    if precision == "bf16" and device.type == "cpu" and not torch.compiler.is_compiling():
        _tell_of_slow_bf16()


@cache
def _tell_of_slow_bf16() -> None:
    if not multiplies_bf16() and is_main():
        log.warning("bf16 on a CPU that has no instructions for it: products take several times as long as in fp32")


def multiplies_bf16() -> bool:
    """Whether oneDNN takes products in bf16 on this CPU; without it PyTorch has only plain loops for them."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def always_fp32(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of tensors compute in fp32, or in fp64 for fp64 tensors, whatever holds outside."""

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device for value in chain(args, kwargs.values()) if isinstance(value, Tensor))
        with _products(device.type), _without_tf32(device.type):
            widened = {name: _widened(value) for name, value in kwargs.items()}
            return function(*map(_widened, args), **widened)

    return exact


def at_least_fp32(tensor: Tensor) -> Tensor:
    """A floating-point tensor in fp32, or in fp64 if it is fp64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def as_products_take(parameter: Tensor) -> Tensor:
    """A parameter in autocast's precision. It is cast once, instead of once per slice."""
    device_type = parameter.device.type
    is_cast = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    if not is_cast or parameter.dtype != torch.float32:
        return parameter
    return parameter.to(torch.get_autocast_dtype(device_type))


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, products are computed in the precision of their inputs."""
    return _products(device.type)


def _products(device_type: str, *, bf16: bool = False, int8: bool = False) -> AbstractContextManager:
    """Inside, products are in bf16 or linear layers in int8, or neither. What is compiled is not for int8."""
    autocast = _autocast(device_type, enabled=bf16)
    return autocast if torch.compiler.is_compiling() else _both(autocast, int8_products(int8))


@contextmanager
def _both(first: AbstractContextManager, second: AbstractContextManager) -> Iterator[None]:
    with first, second:
        yield


def _autocast(device_type: str, enabled: bool) -> AbstractContextManager:
    if not torch.amp.is_autocast_available(device_type):  # for example for meta tensors
        return nullcontext()
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled)


def _without_tf32(device_type: str) -> AbstractContextManager:
    """Inside, a GPU computes products of fp32 tensors in whole fp32. Compiled code compares nothing and keeps TF32."""
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
