"""Linear layers in 8-bit integers, for evaluation on CPUs with instructions for their products (VNNI, AMX).

oneDNN sums products of integers exactly, and every token has a scale of its own. So what a layer makes of a token
depends on it alone: batches, passes and processes do not change it. Weights have no gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from vl_absvit.errors import ConfigError

_LARGEST = 127
_ZERO = 128  # the unsigned byte that stands for 0
_SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of rows and tokens that are 0

_is_on: ContextVar[bool] = ContextVar("int8", default=False)
_kept: Any = WeakTensorKeyDictionary()
"""Quantised weights, by the parameter that they belong to and by which part of it they are."""


class QuantisedWeight(NamedTuple):
    """A matrix (D, E) as ``scales * integers``, one scale per row."""

    integers: Tensor  # as oneDNN lays them out
    scales: Tensor  # (D,), fp32
    zeros: Tensor  # (D,), all 0


def check_int8(device: torch.device) -> None:
    """Complain of a device that does not multiply integers faster.

    Raises:
        ConfigError: it is no CPU, or one without the instructions.
    """
    if device.type != "cpu":
        raise ConfigError(f"--precision int8: expected a CPU, the device is {device}; bf16 is there for others")
    if not (torch.cpu._is_vnni_supported() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        raise ConfigError(
            "--precision int8: expected an x86 CPU with VNNI instructions, and oneDNN in PyTorch; choose bf16 or fp32"
        )


@contextmanager
def int8_products(enabled: bool) -> Iterator[None]:
    """Inside, fp32 linear layers are products of integers, or they are not, whatever holds outside."""
    before = _is_on.set(enabled)
    try:
        if enabled:
            with _LinearLayers():
                yield
        else:
            yield
    finally:
        _is_on.reset(before)


def linear_int8(x: Tensor, weight: QuantisedWeight, bias: Tensor | None) -> Tensor:
    """W x + b for tokens x quantised as s round(x / s), s = max |x| / 127 of each token.

    Args:
        x: (..., E), fp32.
        bias: (D,).

    Returns:
        (..., D), fp32. A token that is not finite has no finite output.
    """
    tokens = x.reshape(-1, x.shape[-1])
    scales = tokens.abs().amax(dim=-1, keepdim=True).clamp_(min=_SMALLEST_SCALE).div_(_LARGEST)
    # Conversion to signed bytes is ten times as fast as to unsigned ones, which oneDNN is fast with.
    integers = (tokens / scales).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO)
    product = torch.ops.onednn.qlinear_pointwise(
        integers, 1.0, _ZERO, *weight, None, 1.0, 0, torch.float32, "none", [], ""
    )
    product.mul_(scales)
    return (product if bias is None else product.add_(bias)).unflatten(0, x.shape[:-1])


def quantise(weight: Tensor) -> QuantisedWeight:
    """A matrix (D, E) by rows, each scaled so that its largest magnitude is 127."""
    scales = weight.abs().amax(dim=1).clamp(min=_SMALLEST_SCALE).div(_LARGEST)
    integers = (weight / scales[:, None]).round_().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(integers, None)
    return QuantisedWeight(packed, scales, torch.zeros(len(weight), dtype=torch.int64))


class _LinearLayers(TorchFunctionMode):
    """Computes ``F.linear`` of fp32 tensors by integers, where they are on."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and _is_on.get():
            x, weight, bias = _arguments(*args, **(kwargs or {}))
            if x.numel() and _are_fp32(x, weight):
                return _StraightThrough.apply(x, weight, bias)
        return func(*args, **(kwargs or {}))


def _arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Those of ``F.linear``, in order."""
    return input, weight, bias


def _are_fp32(*tensors: Tensor) -> bool:
    return all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)


class _StraightThrough(torch.autograd.Function):
    """``linear_int8`` of a parameter. The gradient of the tokens is that of the layer without rounding; no other is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return linear_int8(x, _quantised(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight if ctx.needs_input_grad[0] else None, None, None


def _quantised(weight: Tensor) -> QuantisedWeight:
    """Quantise a parameter or a part of one, once while it stays as it is."""
    of_parameter = _kept.setdefault(weight if weight._base is None else weight._base, {})
    part = weight.data_ptr(), weight.shape, weight.stride()
    version, quantised = of_parameter.get(part, (None, None))
    if version != weight._version:
        quantised = quantise(weight)
        of_parameter[part] = weight._version, quantised
    return quantised
