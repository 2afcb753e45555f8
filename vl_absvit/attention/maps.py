"""Tensors of one forward pass to maps on the patch grid.

Sources: Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS]; Chefer, Gur, Wolf,
"Generic Attention-Model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", ICCV 2021 [Chefer].
Shapes: B rows (images or texts), T text tokens, N image tokens (CLS first, then patches in raster order), D width,
L blocks, H heads, h x w patches of a square input.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Literal

from torch import Tensor

from vl_absvit.errors import ConfigError

THIRD_FROM_END = -3
"""Block whose tokens ``norm_map`` reads by default."""
Heads = Literal["mean", "max"]
"""How the weights of H attention heads become one."""


def prior_mask_map(mask: Tensor) -> Tensor:
    """What the text asks for: clamp(cos(xi, z_i), 0, 1) of the prior and each patch of the first look [AbS 2.5].

    Args:
        mask: the prior mask of all tokens, (B, N).

    Returns:
        (B, h, w), in [0, 1].
    """
    return on_grid(mask)


def norm_map(states: Sequence[Tensor], block: int = THIRD_FROM_END) -> Tensor:
    """How strong each patch is: the length of its token after one block.

    The first look's map is *bottom-up* attention, the second look's *top-down* attention [AbS, Figures 4 and 5].

    Args:
        states: z_0 and every block's output in one look, (L + 1) x (B, N, D).
        block: which of the L blocks, counted from 0, or from the end if negative.

    Returns:
        (B, h, w), at least 0.

    Raises:
        ConfigError: there is no such block.
    """
    outputs = states[1:]
    check_block(block, len(outputs))
    return on_grid(outputs[block].norm(dim=-1))


def check_block(block: int, blocks: int) -> None:
    """Raise ``ConfigError`` if a vision encoder of ``blocks`` blocks has no block of this number."""
    if not -blocks <= block < blocks:
        raise ConfigError(f"there is no block {block}: the vision encoder has {blocks}, from {-blocks} to {blocks - 1}")


def difference_map(top_down: Tensor, bottom_up: Tensor) -> Tensor:
    """What the text changes: the second look's norm map minus the first look's, (B, h, w). Values have either sign."""
    return top_down - bottom_up


def cls_map(weights: Tensor, heads: Heads = "mean") -> Tensor:
    """Where the CLS token looks: its attention to each patch.

    In the last block, these weights mix the look's summary of the image. AbSViT's top-down signal steers the values
    alone [AbS 2.5]: it changes the attention of later blocks, never that of its own block.

    Args:
        weights: attention of one block, (B, H, N, N), queries before keys.

    Returns:
        (B, h, w), in [0, 1]; the patches' share of the attention, which sums to 1 with that to CLS itself.
    """
    return on_grid(_over_heads(weights[:, :, 0], heads))


def cross_map(weights: Sequence[Tensor], is_token: Tensor, heads: Heads = "mean") -> Tensor:
    """Where the words look: attention of the text to each patch, the mean over fusion layers and real text tokens.

    Args:
        weights: text-to-image attention of every fusion layer, (B, H, T, N) each.
        is_token: True at real text tokens, the special ones at both ends among them, (B, T).

    Returns:
        (B, h, w), in [0, 1].
    """
    return _over_layers_and_tokens([_over_heads(each, heads) for each in weights], is_token)


def cross_gradient_map(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], is_token: Tensor, heads: Heads = "mean"
) -> Tensor:
    """The part of the words' attention that supports an answer or a match: gradient x attention where it is positive.

    As in [Chefer, Eq. 5], the weights A of a layer become the mean over heads of (dy/dA * A)+. y is the logit of the
    answer, or of "matches" for a caption. The map is the mean over fusion layers and real text tokens; the paper's
    propagation of relevance through layers is left out. The pooled text reads the first token alone, so that other
    tokens have no gradient in the last layer.

    Args:
        weights: text-to-image attention of every fusion layer, (B, H, T, N) each.
        gradients: of each row's answer or match with respect to ``weights``, of the same shapes.
        is_token: True at real text tokens, the special ones at both ends among them, (B, T).

    Returns:
        (B, h, w), at least 0.
    """
    positive = [(each * gradient).clamp(min=0) for each, gradient in zip(weights, gradients, strict=True)]
    return cross_map(positive, is_token, heads)


def on_grid(per_token: Tensor) -> Tensor:
    """One number per token, (B, N), to one per patch on the square grid, (B, h, w); CLS has no place on it."""
    patches = per_token[:, 1:]
    side = isqrt(patches.shape[1])
    return patches.unflatten(1, (side, side))


def _over_heads(weights: Tensor, heads: Heads) -> Tensor:
    """(B, H, ...) -> (B, ...)."""
    return weights.mean(dim=1) if heads == "mean" else weights.amax(dim=1)


def _over_layers_and_tokens(weights: Sequence[Tensor], is_token: Tensor) -> Tensor:
    """Layers x (B, T, N) -> (B, h, w)."""
    mean_layer = sum(weights) / len(weights)
    is_token = is_token.unsqueeze(-1)
    return on_grid((mean_layer * is_token).sum(dim=1) / is_token.sum(dim=1))
