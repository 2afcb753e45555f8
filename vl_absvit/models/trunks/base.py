"""What the four steps, and all that asks where a model looks, need of a trunk.

A trunk makes tokens of images and takes them through blocks, which lie in stages. A new one is a subclass of ``Trunk``
in a file of its own here and a line in ``registry.py``.
Shapes: I images, B texts, N tokens (prefix tokens such as CLS, then patches in raster order), D width.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from vl_absvit.models.attention import Projections
from vl_absvit.models.top_down import Steered
from vl_absvit.token_grid import TokenGrid

Grid = tuple[int, int]
"""Rows and columns."""


class Block(Protocol):
    """A block whose values can be steered."""

    def project(self, x: Tensor, top_down: Steered | None = None) -> Projections:
        """What the token mixer makes of the block's input before it mixes; a named tuple of tensors, rows first."""

    def value_input(self, x: Tensor) -> Tensor:
        """Of which the values are a linear map, (B, N, D), of the block's input."""

    def __call__(self, x: Tensor, top_down: Steered | None = None, bottom_up: Projections | None = None) -> Tensor:
        """The block's output, (B, N, D); ``bottom_up`` are the bottom-up projections where they are known already."""


class Stage(NamedTuple):
    """Blocks on one grid."""

    blocks: Sequence[Block]
    width: int  # D
    entrance: nn.Module | None = None  # makes the stage's first tokens of the last ones of the stage before


class Dropped(NamedTuple):
    """Something in a file that a trunk has no place for."""

    name: str  # in the file
    numbers: int
    reason: str
    tensors: int = 1  # 0 for rows of a tensor that was taken


class ForeignTrunk(NamedTuple):
    """A trunk found in a file, under its names here; sizes that follow the image's are as in the file."""

    state: dict[str, Tensor]
    remarks: dict[str, str]  # what was done to some of it, by name
    prefix: str  # what stood before the names in the file
    dropped: list[Dropped]


class TrunkModel(NamedTuple):
    """A registered trunk: its sizes where a configuration leaves them open."""

    sizes: dict[str, Any]
    """patch_size, embed_dim, depth, num_heads: arguments of ``timm.create_model``; lists where there are several
    stages. The image's side is a multiple of a patch_size, where there is one."""
    plain: str  # timm's name of the trunk that looks once
    options: Mapping[str, Any] = {}  # further arguments with which training begins


class Trunk(nn.Module):
    """The base of trunks.

    Beside what is declared here it has, as timm's models do, ``forward_head(tokens, pre_logits)``, from the tokens of a
    look (N, D) to pooled features or logits, and the classifier ``head``. It takes the variant of ``variants.py``,
    ``top_down``, for which its blocks may need layers of their own, and ignores what it does not need of it.
    """

    num_prefix_tokens: int
    head: nn.Module

    @property
    def stages(self) -> list[Stage]:
        """First stage first."""
        raise NotImplementedError

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that it is made for."""
        raise NotImplementedError

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        """Of every stage, for images of this height and width; None: of those that the trunk is made for."""
        raise NotImplementedError

    def embed_images(self, images: Tensor) -> Tensor:
        """z_0, (I, N, D) of the first stage, of images (I, 3, height, width)."""
        raise NotImplementedError

    def final_norm(self, tokens: Tensor) -> Tensor:
        """What the last block's output becomes before it is modulated, pooled or fused."""
        return tokens

    def positions(self) -> Tensor:
        """What z_0 holds of every patch whatever it shows, (patches, D)."""
        return next(self.parameters()).new_zeros(math.prod(self.grids()[0]), self.stages[0].width)

    @property
    def has_cls(self) -> bool:
        """Whether the first token stands for the whole image, and attention shows where it looks."""
        return self.num_prefix_tokens > 0

    def cls_attention(self, states: list[Tensor], signals: list[Steered] | None) -> Tensor:
        """Attention of CLS to all tokens, (rows, H, N), in the last block of a look with these states."""
        raise NotImplementedError

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """The trunk in a file of another program.

        Raises ``InputError`` where there is none, more than one, or one of another form.
        """
        return ForeignTrunk(dict(state), {}, "", [])

    def resample(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of a trunk's weights that follow the size of the image, in the shapes of this trunk."""
        return {}

    def describe(self) -> str:
        """Sizes in words."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """D of the tokens that a look gives."""
        return self.stages[-1].width

    @property
    def all_blocks(self) -> list[Block]:
        """L blocks, first block first."""
        return [block for stage in self.stages for block in stage.blocks]

    def blocks_of(self, stage: int) -> slice:
        """Those of ``all_blocks`` that a stage has."""
        ends = [0, *accumulate(len(stage.blocks) for stage in self.stages)]
        stage %= len(self.stages)
        return slice(ends[stage], ends[stage + 1])

    def outputs(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Of all blocks, among the states of a look: what entrances of stages made is left out."""
        rest, found = iter(states[1:]), []
        for stage in self.stages:
            if stage.entrance is not None:
                next(rest)
            found += [next(rest) for _ in stage.blocks]
        return found

    def token_grid(self, block: int = -1) -> TokenGrid:
        """Where the output of a block lies, or the tokens of a look."""
        of_blocks = [grid for stage, grid in zip(self.stages, self.grids(), strict=True) for _ in stage.blocks]
        return TokenGrid(self.num_prefix_tokens, *of_blocks[block])
