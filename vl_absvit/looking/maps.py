"""Tensors of one forward pass to maps on the patch grid.

Sources: Shi, Darrell, Wang, "Top-Down Visual Attention from Analysis by Synthesis", CVPR 2023 [AbS]; Chefer, Gur, Wolf,
"Generic Attention-Model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers", ICCV 2021 [Chefer];
Selvaraju et al., "Grad-CAM", ICCV 2017 [Grad-CAM]; Abnar, Zuidema, "Quantifying Attention Flow in Transformers", ACL
2020 [Rollout]; Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS].
Shapes: B rows (images or texts), T text tokens, N image tokens, h x w patches among them, D width, L blocks, H heads.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vl_absvit.errors import ConfigError
from vl_absvit.token_grid import TokenGrid

THIRD_FROM_END = -3
"""Block whose tokens ``norm_map`` reads by default."""
Heads = Literal["mean", "max"]
"""How the weights of H attention heads become one."""


def prior_mask_map(mask: Tensor, grid: TokenGrid) -> Tensor:
    """What a text asks for: clamp(cos(xi, z_i), 0, 1) of the prior and each patch of the first look [AbS 2.5].

    Args:
        mask: the prior mask of all tokens, (B, N).
        grid: where these lie.

    Returns:
        (B, h, w), in [0, 1].
    """
    return grid.on_grid(mask)


def norm_map(outputs: Sequence[Tensor], grid: TokenGrid, block: int = THIRD_FROM_END) -> Tensor:
    """Strength of each patch: the length of its token after one block.

    The first look's map is *bottom-up* attention, the second look's *top-down* attention [AbS, Figures 4 and 5].

    Args:
        outputs: of every block in one look, L x (B, N, D).
        grid: where those of the block lie.
        block: which of the L blocks, counted from 0, or from the end if negative.

    Returns:
        (B, h, w), at least 0.

    Raises:
        ConfigError: there is no such block.
    """
    check_block(block, len(outputs))
    return grid.on_grid(outputs[block].norm(dim=-1))


def check_block(block: int, blocks: int) -> None:
    """Raise ``ConfigError`` if a vision encoder of ``blocks`` blocks has no block of this number."""
    if not -blocks <= block < blocks:
        raise ConfigError(f"there is no block {block}: the vision encoder has {blocks}, from {-blocks} to {blocks - 1}")


def difference_map(top_down: Tensor, bottom_up: Tensor) -> Tensor:
    """The change by the text: the second look's norm map minus the first look's, (B, h, w). Values have either sign."""
    return top_down - bottom_up


def cls_map(weights: Tensor, grid: TokenGrid, heads: Heads = "mean") -> Tensor:
    """Attention of the CLS token to each patch.

    In the last block, these weights mix the look's summary of the image. AbSViT's top-down signal steers the values
    alone [AbS 2.5]: it changes the attention of later blocks, never that of its own block.

    Args:
        weights: attention of CLS to all tokens in one block, (B, H, N).
        grid: where these lie.

    Returns:
        (B, h, w), in [0, 1]; the patches' share of the attention, which sums to 1 with that to CLS itself.
    """
    return grid.on_grid(_over_heads(weights, heads))


def average_map(tokens: Tensor, grid: TokenGrid) -> Tensor:
    """How much each patch is like the whole: the cosine of its token with the mean of all patches' tokens.

    A trunk without CLS token classifies that mean, by which [VARS 4.3] asks for what a model attends to; the paper does
    not say how the map comes about, and the cosine is our choice.

    Args:
        tokens: of a look, after the final norm, (B, N, D).
        grid: where these lie.

    Returns:
        (B, h, w), in [-1, 1].
    """
    patches = grid.patches(tokens)
    return torch.cosine_similarity(patches, patches.mean(dim=1, keepdim=True), dim=-1).unflatten(
        1, (grid.rows, grid.columns)
    )


def grad_cam_map(tokens: Tensor, gradients: Tensor, grid: TokenGrid) -> Tensor:
    """The part of the patches' tokens that supports a class: relu(sum_k w_k z_k), w_k the mean gradient of channel k.

    [Grad-CAM, Eqs. 1 and 2], for the tokens that enter the last block of the look that is classified.

    Args:
        tokens: z, (B, N, D).
        gradients: of the class's logit with respect to them, (B, N, D).
        grid: where these lie.

    Returns:
        (B, h, w), at least 0.
    """
    weights = grid.patches(gradients).mean(dim=1, keepdim=True)  # (B, 1, D)
    return grid.on_grid((weights * tokens).sum(dim=-1)).clamp(min=0)


def rollout_map(weights: Iterable[Tensor], grid: TokenGrid) -> Tensor:
    """Attention that flows through all blocks, R = A_L ... A_1 with A = (mean over heads + identity) / 2 [Rollout].

    Args:
        weights: of every block, first block first, (B, H, N, N) each; rows sum to 1.
        grid: where the tokens lie.

    Returns:
        (B, h, w), in [0, 1]: the first token's row where there is a prefix, else the mean over rows.
    """
    rolled: Tensor | None = None
    for of_block in weights:
        mean = of_block.mean(dim=1)
        step = (mean + torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)) / 2
        rolled = step if rolled is None else step @ rolled
    assert rolled is not None, "there is a block"
    return grid.on_grid(rolled[:, 0] if grid.prefix else rolled.mean(dim=1))


def cross_map(weights: Sequence[Tensor], is_token: Tensor, grid: TokenGrid, heads: Heads = "mean") -> Tensor:
    """Attention of the text to each patch, the mean over fusion layers and real text tokens.

    Args:
        weights: text-to-image attention of every fusion layer, (B, H, T, N) each.
        is_token: True at real text tokens, the special ones at both ends among them, (B, T).
        grid: where the image tokens lie.

    Returns:
        (B, h, w), in [0, 1].
    """
    mean_layer = sum(_over_heads(layer, heads) for layer in weights) / len(weights)  # (B, T, N)
    is_token = is_token.unsqueeze(-1)
    return grid.on_grid((mean_layer * is_token).sum(dim=1) / is_token.sum(dim=1))


def cross_gradient_map(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], is_token: Tensor, grid: TokenGrid, heads: Heads = "mean"
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
        grid: where the image tokens lie.

    Returns:
        (B, h, w), at least 0.
    """
    positive = [(layer * gradient).clamp(min=0) for layer, gradient in zip(weights, gradients, strict=True)]
    return cross_map(positive, is_token, grid, heads)


def _over_heads(weights: Tensor, heads: Heads) -> Tensor:
    """(B, H, ...) -> (B, ...)."""
    return weights.mean(dim=1) if heads == "mean" else weights.amax(dim=1)
