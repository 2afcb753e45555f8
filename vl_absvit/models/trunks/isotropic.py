"""DeiT*, GFNet* and GFNet as trunks: ``absvit_{deit_star,gfnet_star,gfnet}_SIZE``; ``FAMILIES`` has the sizes.

GFNet: Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021 [GFNet]. DeiT* and GFNet* are
trunks of [VARS] (Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022), which says of
them no more than a convolutional embedding and another attention. They are put together here out of released parts:
RVT's embedding, learned positions, DeiT's or GFNet's blocks. The top-down input is ours.
Parameters have the names of the releases and of timm. Shapes: I images, N tokens of a grid in raster order, D width.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed
from torch import Tensor, nn

from vl_absvit.models.attention import SingleResidualBlock, TopDownBlock
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.trunks.base import ForeignTrunk, Grid, Stage, TrunkModel
from vl_absvit.models.trunks.patch_trunk import ConvEmbedding, PatchTrunk, check_patch_size, in_words, make_block
from vl_absvit.models.trunks.registering import register_twins, without_weights
from vl_absvit.models.trunks.vars_forms import in_our_names
from vl_absvit.variants import TopDown

POSITIONS = "pos_embed"


class Isotropic(PatchTrunk):
    """An embedding, learned positions, and blocks of one width.

    Args:
        attention: kind of attention in all blocks, one of ``attention.KINDS``.
        attention_options: arguments of the attention layer's own.
        block: the block around the attention.
        is_convolutional: whether RVT's embedding makes the tokens, whose patches have 16 pixels, or one convolution.
        fc_norm: as in ``PatchTrunk``; the releases norm every token.
        top_down: as in ``Trunk``.
    """

    def __init__(
        self,
        *,
        top_down: TopDown,
        attention: str,
        block: type[TopDownBlock],
        is_convolutional: bool,
        img_size: int | Grid = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        global_pool: str = "avg",
        fc_norm: bool = False,
        drop_path_rate: float = 0.0,
        attention_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(img_size=img_size, num_classes=num_classes, global_pool=global_pool, fc_norm=fc_norm)
        self.attention, self.attention_options = attention, dict(attention_options or {})
        self.num_heads, self.embed_dim = num_heads, embed_dim
        starred = "DeiT*" if block is TopDownBlock else "GFNet*"
        self.family = starred if is_convolutional else "GFNet"
        self.patch_embed: ConvEmbedding | PatchEmbed
        if is_convolutional:
            check_patch_size("this trunk", patch_size)
            self.patch_embed = ConvEmbedding(embed_dim, in_chans)
        else:
            self.patch_embed = PatchEmbed(self.image_size, patch_size, in_chans, embed_dim)
        grid = self.grids()[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], embed_dim))
        self.blocks = nn.ModuleList(
            make_block(
                embed_dim, num_heads, top_down=top_down, attention=attention, options=self.attention_options,
                grid=grid, mlp_ratio=mlp_ratio, drop_path=drop_path_rate * number / max(depth - 1, 1), block=block,
            )
            for number in range(depth)
        )  # fmt: skip
        self.make_head()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for layer in (layer for layer in self.modules() if isinstance(layer, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @property
    def stages(self) -> list[Stage]:
        return [Stage(cast("list[TopDownBlock]", self.blocks), self.embed_dim)]

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        size = image_size or self.image_size
        if isinstance(self.patch_embed, ConvEmbedding):
            return [self.patch_embed.grid(size)]
        return [self.patch_embed.dynamic_feat_size(size)]

    def embed_images(self, images: Tensor) -> Tensor:
        self.check_size(images)
        return self.patch_embed(images) + self.pos_embed

    def no_weight_decay(self) -> set[str]:
        return {POSITIONS}

    def positions(self) -> Tensor:
        return self.pos_embed[0].detach()

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """The trunk in a file of this project, or of the releases of GFNet and VARS."""
        found = super().read_foreign(state)
        renamed = {name.replace(".filter.", ".attn."): value for name, value in found.state.items()}
        return in_our_names(found._replace(state=renamed), self.attention_options)

    def resample(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Resample the positions bicubically."""
        table = state.get(POSITIONS)
        if table is None or table.ndim != 3 or table.shape[1] == self.pos_embed.shape[1]:
            return {}
        return {POSITIONS: resample_abs_pos_embed(table, list(self.grids()[0]), num_prefix_tokens=0)}

    def describe(self) -> str:
        kind = in_words(self.attention, self.attention_options)
        return f"{len(self.blocks)} blocks {self.embed_dim} wide with {self.num_heads} heads, {kind}"


class AbSIsotropic(VisualEncoder, Isotropic):
    """Such a trunk that looks twice; arguments are those of ``VisualEncoder`` and ``Isotropic``."""


DEIT_STAR = {"attention": "performer", "block": TopDownBlock, "is_convolutional": True}
GFNET_STAR = {"attention": "performer", "block": SingleResidualBlock, "is_convolutional": True}
GFNET = {"attention": "global_filter", "block": SingleResidualBlock, "is_convolutional": False}


def _sizes(width: int, depth: int, heads: int) -> dict[str, int]:
    return {"patch_size": 16, "embed_dim": width, "depth": depth, "num_heads": heads}


FAMILIES: dict[str, tuple[dict[str, Any], dict[str, dict[str, int]], tuple[str, ...]]] = {
    "deit_star": (
        DEIT_STAR,
        {"tiny": _sizes(192, 12, 3), "small": _sizes(384, 12, 6), "base": _sizes(768, 12, 12)},
        ("performer", "softmax", "vars_s", "vars_d", "vars_sd"),
    ),
    # Nobody says into how many heads GFNet* divides: 64 channels each, as DeiT's.
    "gfnet_star": (
        GFNET_STAR,
        {"tiny": _sizes(256, 12, 4), "small": _sizes(384, 19, 6), "base": _sizes(512, 19, 8)},
        ("performer", "softmax", "vars_d", "vars_sd"),
    ),
    "gfnet": (
        GFNET,
        {
            "tiny": _sizes(256, 12, 1),
            "xsmall": _sizes(384, 12, 1),
            "small": _sizes(384, 19, 1),
            "base": _sizes(512, 19, 1),
        },
        (),
    ),
}  # fmt: skip
"""What a family is, its sizes, and the kinds of attention that it takes, its own first."""
FORMS: dict[str, dict[str, Any]] = {
    f"{family}_{size}": own | numbers for family, (own, sizes, _) in FAMILIES.items() for size, numbers in sizes.items()
}
MODELS = {
    f"absvit_{family}_{size}": TrunkModel(numbers, f"{family}_{size}", attentions=kinds)
    for family, (_, sizes, kinds) in FAMILIES.items()
    for size, numbers in sizes.items()
}
default_cfgs = without_weights(FORMS)
register_twins(__name__, AbSIsotropic, FORMS)
