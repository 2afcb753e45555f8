"""The interface of a trunk: what the four steps and the attention maps need.

A trunk makes tokens of images and takes them through blocks, which lie in stages. A new trunk is a subclass of
``Trunk`` in its own file here, and a line in ``registry.py``; ``CONTRIBUTING.md``
has an example.
Shapes: I images, B texts, N tokens (prefix tokens such as CLS, then patches in raster order), D width.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from vl_absvit.models.attention import Projections
from vl_absvit.models.top_down import Steered
from vl_absvit.models.trunks.positions import PositionRule
from vl_absvit.token_grid import TokenGrid

Grid = tuple[int, int]
"""Rows and columns."""


class Block(Protocol):
    """A block whose values can be steered."""

    def project(self, x: Tensor, top_down: Steered | None = None) -> Projections:
        """Projections of the block's input, before tokens are mixed."""

    def value_input(self, x: Tensor) -> Tensor:
        """The input of the linear map that makes the values, (B, N, D), out of the block's input."""

    def __call__(self, x: Tensor, top_down: Steered | None = None, bottom_up: Projections | None = None) -> Tensor:
        """The block's output, (B, N, D). ``bottom_up`` are the bottom-up projections if they are known already."""


class Stage(NamedTuple):
    """Blocks on one grid."""

    blocks: Sequence[Block]
    width: int  # D
    entrance: nn.Module | None = None  # turns the last tokens of the stage before into this stage's first ones


class Dropped(NamedTuple):
    """Weights in a file that a trunk does not take."""

    name: str  # in the file
    numbers: int
    reason: str
    tensors: int = 1  # 0 for rows of a tensor that was taken


class ForeignTrunk(NamedTuple):
    """A trunk found in a file, under its names here. Weights that follow the image size still have the file's shape."""

    state: dict[str, Tensor]
    remarks: dict[str, str]  # name -> what was done to the weight
    prefix: str  # of the names in the file
    dropped: list[Dropped]


class TrunkModel(NamedTuple):
    """A registered trunk, with the sizes that hold unless a config says otherwise."""

    sizes: dict[str, Any]
    """patch_size, embed_dim, depth, num_heads: arguments of ``timm.create_model``; lists for several stages. The
    image's side is a multiple of patch_size, if there is one."""
    plain: str  # timm's name of the trunk that looks once
    options: Mapping[str, Any] = {}  # further arguments for a model that will be trained
    attentions: Sequence[str] = ()
    """Kinds of attention that its blocks can have in place of its own, arguments ``attention`` of
    ``timm.create_model``."""
    any_size: Mapping[str, Any] | None = None
    """Arguments of ``timm.create_model`` by which it takes images of any size; None if it takes its own size alone."""
    entry: str | None = None  # timm makes it under this name, given its own as ``trunk``; None: under its own

    def call(self, name: str) -> tuple[str, dict[str, Any]]:
        """Name and first arguments by which ``timm.create_model`` makes the trunk called ``name``."""
        return (name, {}) if self.entry is None else (self.entry, {"trunk": name})


class Trunk(nn.Module):
    """The base of trunks.

    A trunk takes the argument ``top_down``, a variant of ``variants.py`` for which its blocks may need layers of their
    own. Beside what is declared here it has timm's classifier ``head``.
    """

    family: str
    """Its name in the papers."""
    num_prefix_tokens: int
    position_rule: PositionRule = "timm"
    """How a table of positions is resampled, in a pass and when weights are loaded. Only a ViT follows another one."""
    forward_head: Callable[..., Tensor]
    """timm's ``forward_head(tokens, pre_logits)``: tokens of a look (I, N, D) -> pooled features or logits."""

    @property
    def stages(self) -> list[Stage]:
        """First stage first."""
        raise NotImplementedError

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the trunk's images, in pixels."""
        raise NotImplementedError

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        """Rows and columns of every stage, for images of this height and width; None means the trunk's own."""
        raise NotImplementedError

    def embed_images(self, images: Tensor) -> Tensor:
        """z_0, (I, N, D) of the first stage, of images (I, 3, height, width)."""
        raise NotImplementedError

    def final_norm(self, tokens: Tensor) -> Tensor:
        """The last block's output after the norm, which is modulated, pooled or fused."""
        return tokens

    def positions(self) -> Tensor:
        """The part of z_0 that encodes the position of every patch, (patches, D)."""
        return next(self.parameters()).new_zeros(math.prod(self.grids()[0]), self.stages[0].width)

    @property
    def has_cls(self) -> bool:
        """Whether the first token is a CLS token, whose attention covers the image."""
        return self.num_prefix_tokens > 0

    @property
    def pools_token(self) -> bool:
        """Whether the classifier can read a token in place of the mean, ``pooling: token``."""
        return self.has_cls

    def cls_attention(self, states: list[Tensor], signals: list[Steered] | None) -> Tensor:
        """Attention of CLS to all tokens, (rows, H, N), in the last block of a look with these states."""
        raise NotImplementedError

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """Find the trunk in a file of another program; here, in one of this project: alone, or as the part of a model.

        Raises ``InputError`` if there is none, more than one, or one of another form.
        """
        prefix = "vision." if any(key.startswith("vision.") for key in state) else ""
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        beside = f"beside the trunk, which is {prefix}*"
        dropped = [Dropped(key, value.numel(), beside) for key, value in state.items() if not key.startswith(prefix)]
        return ForeignTrunk(inside, {}, prefix, dropped)

    def resample(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights that follow the size of the image, resampled to the shapes of this trunk."""
        return {}

    def describe(self) -> str:
        """Sizes in words."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """D of a look's tokens."""
        return self.stages[-1].width

    @property
    def all_blocks(self) -> list[Block]:
        """L blocks, first block first."""
        return [block for stage in self.stages for block in stage.blocks]

    def blocks_of(self, stage: int) -> slice:
        """The part of ``all_blocks`` that belongs to a stage."""
        ends = [0, *accumulate(len(stage.blocks) for stage in self.stages)]
        stage %= len(self.stages)
        return slice(ends[stage], ends[stage + 1])

    @property
    def entrances(self) -> dict[int, nn.Module]:
        """By the number of a stage's first block, what turns the last tokens of the stage before into its input."""
        return {
            self.blocks_of(number).start: stage.entrance
            for number, stage in enumerate(self.stages)
            if stage.entrance is not None
        }

    def state_before(self, block: int) -> int:
        """Where the input of a block is among the states of a look."""
        return block + sum(first <= block for first in self.entrances)

    def outputs(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of all blocks, out of the states of a look. Outputs of stages' entrances are left out."""
        rest = iter(states[1:])
        found: list[Tensor] = []
        for stage in self.stages:
            if stage.entrance is not None:
                next(rest)
            found += [next(rest) for _ in stage.blocks]
        return found

    def token_grid(self, block: int = -1) -> TokenGrid:
        """The grid of a block's output. The last block's is that of a look's tokens."""
        of_blocks = [grid for stage, grid in zip(self.stages, self.grids(), strict=True) for _ in stage.blocks]
        return TokenGrid(self.num_prefix_tokens, *of_blocks[block])
