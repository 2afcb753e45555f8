"""Forms of a ViT's block that compute what ours computes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vl_absvit.errors import InputError


def in_our_form(
    state: Mapping[str, Tensor], prefix: str, depth: int, where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The same function without LayerScale and with all biases: the one form of block that we have.

    LayerScale multiplies what a linear layer gives, so it goes into that layer's weights (computed in fp64, kept in the
    weights' own precision); a bias of queries, keys and values that is not there is zero.

    Args:
        prefix: of the blocks' names, before their numbers.
        depth: number of blocks.
        where: named in errors.

    Returns:
        The state, and the names of the biases that are new.

    Raises:
        InputError: a scale has not as many numbers as its layer has outputs.
    """
    state, new = dict(state), []
    for block in (f"{prefix}{number}" for number in range(depth)):
        for scale, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
            gamma = state.pop(f"{block}.{scale}.gamma", None)
            for name in (f"{block}.{layer}.weight", f"{block}.{layer}.bias"):
                if gamma is not None and name in state:
                    state[name] = _scaled(state[name], gamma, f"{where}: {block}.{scale}")
        weight, bias = (f"{block}.attn.qkv.{name}" for name in ("weight", "bias"))
        if weight in state and bias not in state:
            state[bias] = torch.zeros(state[weight].shape[:1], dtype=state[weight].dtype)
            new.append(bias)
    return state, new


def _scaled(value: Tensor, gamma: Tensor, where: str) -> Tensor:
    """The rows of a weight, or the numbers of a bias, times the scale of each output."""
    if gamma.shape != value.shape[:1] or gamma.ndim != 1:
        raise InputError(f"{where}: a scale of shape {tuple(gamma.shape)} for a layer of shape {tuple(value.shape)}")
    return (value.double() * gamma.double().view(-1, *[1] * (value.ndim - 1))).to(value.dtype)
