"""Linear layers of a GELU or a norm, whose output is computed again in the backward pass instead of kept.

The input of the GELU or the norm is kept anyway, for its own gradient. So autograd keeps one tensor where it would keep
two. Outputs and gradients are the same, bit by bit. Shapes: B rows, N tokens, D and E widths.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vl_absvit.precision import as_products_take, without_autocast

aten = torch.ops.aten


def keeps_less() -> bool:
    """Whether there is something to keep less of: a backward pass may follow, and no compiler decides what is kept."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def linear_of_gelu(hidden: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(gelu(hidden))``, (B, N, E) -> (B, N, D)."""
    if not keeps_less():
        return layer(F.gelu(hidden))
    return _LinearOfGelu.apply(hidden, *_parameters(layer))


def linear_of_norm(x: Tensor, norm: nn.Module | None, layer: nn.Linear) -> Tensor:
    """``layer(norm(x))``, (B, N, D) -> (B, N, E). Without a norm, ``layer(x)``."""
    if not (keeps_less() and _is_plain(norm)):
        return layer(x if norm is None else norm(x))
    return linear_and_norm(x, norm, *_parameters(layer))[0]


def linear_and_norm(x: Tensor, norm: nn.Module | None, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The product with the normed tokens, (B, N, E), and these, (B, N, D), for which nothing more is kept.

    Args:
        x: (B, N, D).
        norm: None means that ``x`` is normed already.
        weight, bias: of the linear layer, as ``as_products_take`` gives them.
    """
    if keeps_less() and isinstance(norm, nn.LayerNorm) and _is_plain(norm):
        return _LinearOfNorm.apply(x.to(norm.weight.dtype), norm.weight, norm.bias, weight, bias, norm.eps)
    normed = x if norm is None else norm(x)
    return F.linear(normed, weight, bias), normed


def _is_plain(norm: nn.Module | None) -> bool:
    """Whether a norm is a layer norm with a scale and a shift."""
    return isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None


def _parameters(layer: nn.Linear) -> tuple[Tensor, Tensor | None]:
    return as_products_take(layer.weight), None if layer.bias is None else as_products_take(layer.bias)


class _LinearOfGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        with without_autocast(hidden.device):
            return F.linear(F.gelu(hidden).to(weight.dtype), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        of_hidden = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_hidden = aten.gelu_backward((gradient @ weight).to(hidden.dtype), hidden)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(gradient, F.gelu(hidden).to(weight.dtype))
        if ctx.needs_input_grad[2]:
            of_bias = _of_bias(gradient)
        return of_hidden, of_weight, of_bias


class _LinearOfNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        with without_autocast(x.device):
            normed, mean, rstd = torch.native_layer_norm(x, scale.shape, scale, shift, eps)
            ctx.save_for_backward(x, mean, rstd, scale, shift, weight)
            return F.linear(normed.to(weight.dtype), weight, bias), normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, of_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mean, rstd, scale, shift, weight = ctx.saved_tensors
        of_norm: tuple[Tensor | None, ...] = (None, None, None)
        of_weight = of_bias = None
        needed = ctx.needs_input_grad
        if gradient is not None:
            through_product = (gradient @ weight).to(x.dtype)
            of_normed = through_product if of_normed is None else of_normed + through_product
        if any(needed[:3]) and of_normed is not None:
            of_norm = aten.native_layer_norm_backward(
                of_normed, x, scale.shape, mean, rstd, scale, shift, list(needed[:3])
            )
        if needed[3] and gradient is not None:
            normed = F.layer_norm(x, scale.shape, scale, shift, ctx.eps)
            of_weight = _of_weight(gradient, normed.to(weight.dtype))
        if needed[4] and gradient is not None:
            of_bias = _of_bias(gradient)
        return *of_norm, of_weight, of_bias, None


def _of_weight(gradient: Tensor, inputs: Tensor) -> Tensor:
    return gradient.flatten(0, -2).T @ inputs.flatten(0, -2)


def _of_bias(gradient: Tensor) -> Tensor:
    return gradient.flatten(0, -2).sum(dim=0)
