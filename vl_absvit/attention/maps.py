"""Tokens of one inference to maps on the patch grid.

Shapes: B rows (images or texts), N tokens (CLS first, then patches in raster order), D width, L blocks, h x w patches
of a square input.
"""

from collections.abc import Sequence
from math import isqrt

from torch import Tensor

from vl_absvit.errors import InputError

THIRD_FROM_END = -3
"""Block whose tokens ``norm_map`` reads by default."""


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

    The first look's map is *bottom-up* attention, the second look's *top-down* attention, as in the figures of [AbS].

    Args:
        states: z_0 and every block's output in one look, (L + 1) x (B, N, D).
        block: which of the L blocks, counted from 0, or from the end if negative.

    Returns:
        (B, h, w).

    Raises:
        InputError: there is no such block.
    """
    outputs = states[1:]
    if not -len(outputs) <= block < len(outputs):
        raise InputError(f"there is no block {block}: the vision encoder has {len(outputs)}")
    return on_grid(outputs[block].norm(dim=-1))


def on_grid(per_token: Tensor) -> Tensor:
    """One number per token, (B, N), to one per patch on the square grid, (B, h, w); CLS has no place on it."""
    patches = per_token[:, 1:]
    side = isqrt(patches.shape[1])
    return patches.unflatten(1, (side, side))
