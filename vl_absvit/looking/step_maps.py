"""Where a block attends after every step of its sparse reconstruction, as [VARS] shows for its recurrence.

Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022 [VARS]; Shi's thesis
(UCB/EECS-2024-49), Figures 1.5 and A.1. Neither they nor their code say how a map is made of dictionary and codes; this
is ours: the weight of every token's value in the mean of all tokens' outputs. For softmax and Performer that is the
attention of the average token, averaged over heads.
Shapes: I images, N tokens, h x w patches.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vl_absvit.errors import ConfigError
from vl_absvit.looking.maps import check_block
from vl_absvit.models.attention import KINDS, GlobalFilter, ReconstructingAttention, TopDownBlock
from vl_absvit.models.looks import TwoLooks, VisualEncoder


class StepMaps(NamedTuple):
    """Maps of one block."""

    block: int  # counted from 0
    attention: str  # its kind, of ``attention.KINDS``
    steps: list[int]  # after which maps are made; 0 is the start, and all where there is no recurrence
    maps: Tensor  # (steps, I, h, w); may be negative where values are reconstructed
    energies: Tensor | None  # (steps, I), the mean of VARS's energy over heads or channels; None without steps


def usual_step_block(vision: VisualEncoder) -> int:
    """The last block of the first stage, which [VARS] draws."""
    return vision.blocks_of(0).stop - 1


def step_maps(
    vision: VisualEncoder, looks: TwoLooks, block: int | None = None, steps: Sequence[int] | None = None
) -> StepMaps:
    """Maps of a block in the last look at I images.

    Args:
        vision: in evaluation mode.
        looks: at images, one prior for each.
        block: counted from 0, or from the end if negative; None takes the usual one.
        steps: some in ascending order, also beyond those that the model takes; None means all of these and the start.

    Raises:
        ConfigError: there is no such block, it takes no steps, or it attends in the same way to every image.
    """
    blocks = vision.all_blocks
    block = usual_step_block(vision) if block is None else block
    check_block(block, len(blocks))
    number = range(len(blocks))[block]
    chosen = cast("TopDownBlock", blocks[number])
    attention = chosen.attn
    kind = next(name for name, layer in reversed(KINDS.items()) if isinstance(attention, layer))
    if isinstance(attention, GlobalFilter):
        raise ConfigError(f"block {number} is a global filter, which mixes the tokens of all images in the same way")
    states = looks.first.states if looks.second is None else looks.second_states(None)
    again = number - vision.looks_again_from
    signal = looks.signals[again] if looks.signals is not None and again >= 0 else None
    with torch.no_grad():
        projections = chosen.project(states[vision.state_before(number)], signal)
    energies = None
    if isinstance(attention, ReconstructingAttention):
        steps = list(range(attention.steps + 1) if steps is None else steps)
        weights = attention.mean_weights(projections, steps[-1])[steps]
        with torch.no_grad():
            energies = attention.energies(projections, steps[-1]).mean(dim=-1)[steps]
    elif steps is None:
        steps = [0]
        with torch.no_grad():
            weights = attention.mean_weights(projections)
    else:
        raise ConfigError(f"block {number} attends in one step, by {kind}; other steps are about VARS")
    grid = vision.token_grid(number)
    return StepMaps(number, kind, steps, torch.stack([grid.on_grid(of_step) for of_step in weights]), energies)
