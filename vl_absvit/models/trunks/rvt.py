"""RVT and its variants as trunks: ``absvit_rvt_{tiny,small,base}``, ``absvit_rvt_plus_*``, ``absvit_rvt_performer_*``.

Mao et al., "Towards Robust Vision Transformer", CVPR 2022 [RVT]; with another attention, RVT* of [VARS] (Shi et al.,
"Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022). The top-down input on it is ours: the rule
of the released ViT carried over, with a transposed convolution between stages.
Parameters have the releases' names. Shapes: I images, N tokens of a grid in raster order, D width; lists have an entry
per stage.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any, cast

from timm.layers import Mlp
from torch import Tensor, nn

from vl_absvit.models.attention import TopDownBlock
from vl_absvit.models.conv_mlp import ConvMlp
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.trunks.base import ForeignTrunk, Grid, Stage, TrunkModel
from vl_absvit.models.trunks.patch_trunk import (
    ConvEmbedding,
    PatchTrunk,
    check_patch_size,
    in_words,
    make_block,
    per_stage,
)
from vl_absvit.models.trunks.registering import register_twins, without_weights
from vl_absvit.models.trunks.vars_forms import in_our_names
from vl_absvit.variants import TopDown

PLAIN_MLP_WIDTH = 768
"""Blocks of exactly this width have no convolution in their MLP."""


class Pool(nn.Module):
    """A depthwise convolution between stages, which halves rows and columns."""

    def __init__(self, width_before: int, width: int, grid_before: Grid) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_before, width, kernel_size=3, stride=2, padding=1, groups=width_before)
        self.grid_before = grid_before

    def forward(self, tokens: Tensor) -> Tensor:
        """(I, N, D) of one stage to those of the next."""
        return self.conv(tokens.mT.unflatten(-1, self.grid_before)).flatten(2).mT


class Transformer(nn.Module):
    """The blocks of a stage."""

    def __init__(self, blocks: list[TopDownBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


class RVT(PatchTrunk):
    """Convolutional embedding without positions, blocks with a convolution in their MLP, poolings between stages.

    Args:
        patch_size: 16; the embedding has no other.
        embed_dim, depth, num_heads: one number, or one per stage; a width is a multiple of the one before.
        attention: kind of attention in all blocks, one of ``attention.KINDS``.
        attention_options: arguments of the attention layer's own.
        position_aware_blocks: as many blocks at the beginning scale their logits by place ([RVT]'s ``plus``).
        drop_path_rate: block i of n has i / n of it, so that none has all of it, as in the releases.
        top_down: as in ``Trunk``; the others: as in ``PatchTrunk``.
    """

    family = "RVT"

    def __init__(
        self,
        *,
        top_down: TopDown,
        img_size: int | Grid = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int | list[int],
        depth: int | list[int],
        num_heads: int | list[int],
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        global_pool: str = "avg",
        fc_norm: bool | None = None,
        drop_path_rate: float = 0.0,
        attention: str = "softmax",
        attention_options: Mapping[str, Any] | None = None,
        position_aware_blocks: int = 0,
    ) -> None:
        super().__init__(img_size=img_size, num_classes=num_classes, global_pool=global_pool, fc_norm=fc_norm)
        check_patch_size("RVT", patch_size)
        self.attention, self.attention_options = attention, dict(attention_options or {})
        self.widths, depths, self.heads = per_stage(embed_dim, depth, num_heads)
        self.patch_embed = ConvEmbedding(self.widths[0], in_chans)
        grids, numbers, total = self.grids(), iter(range(sum(depths))), sum(depths)
        self.transformers = nn.ModuleList()
        for width, number, of_width, grid in zip(self.widths, depths, self.heads, grids, strict=True):
            blocks = [
                make_block(
                    width,
                    of_width,
                    top_down=top_down,
                    attention="position_aware" if (block := next(numbers)) < position_aware_blocks else attention,
                    options=self.attention_options,
                    grid=grid,
                    mlp_ratio=mlp_ratio,
                    drop_path=drop_path_rate * block / total,
                    mlp_layer=Mlp if width == PLAIN_MLP_WIDTH else partial(ConvMlp, grid=grid),
                )
                for _ in range(number)
            ]
            self.transformers.append(Transformer(blocks))
        self.pools = nn.ModuleList(
            Pool(before, after, grid) for (before, after), grid in zip(pairwise(self.widths), grids, strict=False)
        )
        self.make_head()

    @property
    def stages(self) -> list[Stage]:
        transformers, pools = cast("list[Transformer]", list(self.transformers)), [None, *self.pools]
        return [
            Stage(cast("list[TopDownBlock]", transformer.blocks), width, entrance=pool)
            for transformer, width, pool in zip(transformers, self.widths, pools, strict=True)
        ]

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        found = [self.patch_embed.grid(image_size or self.image_size)]
        for _ in self.widths[1:]:
            rows, columns = found[-1]
            found.append((-(-rows // 2), -(-columns // 2)))
        return found

    def embed_images(self, images: Tensor) -> Tensor:
        self.check_size(images)
        return self.patch_embed(images)

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """The trunk in a file of this project, or of the releases of RVT and VARS."""
        return in_our_names(super().read_foreign(state), self.attention_options)

    def describe(self) -> str:
        stages = (
            f"{len(stage.blocks)} blocks {stage.width} wide with {heads} heads"
            for stage, heads in zip(self.stages, self.heads, strict=True)
        )
        return f"{', then '.join(stages)}, {in_words(self.attention, self.attention_options)}"


class AbSRVT(VisualEncoder, RVT):
    """An RVT that looks twice; arguments are those of ``VisualEncoder`` and ``RVT``."""


SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"patch_size": 16, "embed_dim": [192, 384], "depth": [10, 2], "num_heads": [6, 12]},
    "small": {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12},
}
POSITION_AWARE = {"tiny": 10, "small": 5, "base": 5}
_KINDS = ("softmax", "performer", "vars_s", "vars_d", "vars_sd")
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "rvt": {size: {} for size in SIZES},
    "rvt_plus": {size: {"position_aware_blocks": number} for size, number in POSITION_AWARE.items()},
    "rvt_performer": {size: {"attention": "performer"} for size in SIZES},
}
FORMS = {f"{name}_{size}": SIZES[size] | own for name, of in _VARIANTS.items() for size, own in of.items()}
MODELS = {
    f"absvit_{name}_{size}": TrunkModel(SIZES[size], f"{name}_{size}", attentions=() if name == "rvt_plus" else _KINDS)
    for name in _VARIANTS
    for size in SIZES
}
default_cfgs = without_weights(FORMS)
register_twins(__name__, AbSRVT, FORMS)
