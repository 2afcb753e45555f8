"""timm's ViT as a trunk, and the models that are registered with timm: ``absvit_{tiny,small,base}_patch{16,8}_224``.

Shapes: I images, N tokens (CLS first, then patches in raster order), D width, H heads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from timm.layers import resample_patch_embed
from timm.models import PretrainedCfg, generate_default_cfgs, get_pretrained_cfg
from timm.models._features import feature_take_indices
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from vl_absvit.models.attention import TopDownBlock, attention_layer
from vl_absvit.models.looks import OWN, VisualEncoder
from vl_absvit.models.top_down import Steered
from vl_absvit.models.trunks.base import ForeignTrunk, Grid, Stage, Trunk, TrunkModel
from vl_absvit.models.trunks.positions import RESAMPLE
from vl_absvit.models.trunks.registering import register
from vl_absvit.models.trunks.vit_forms import as_plain_vit
from vl_absvit.variants import TopDown

POSITIONS, PATCHES = "pos_embed", "patch_embed.proj.weight"
ATTENTIONS = ("softmax", "performer", "vars_d")
"""Kinds of attention that need no grid, and so take the CLS token."""


class ViT(Trunk, VisionTransformer):
    """timm's VisionTransformer: one stage of blocks, with softmax attention unless another kind is named.

    With timm's ``dynamic_img_size`` and ``dynamic_img_pad`` it takes images of any size: the table of positions is
    resampled in every pass, and zeros are added right and below up to whole patches.

    Args:
        attention: kind of attention in all blocks, one of ``ATTENTIONS``. CLS is a token like others.
        attention_options: arguments of the attention layer's own.
        top_down: as in ``Trunk``; the others: timm's.
    """

    family = "ViT"

    def __init__(
        self,
        *,
        top_down: TopDown,
        attention: str = "softmax",
        attention_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        layer = attention_layer(top_down, attention, **(attention_options or {}))
        super().__init__(block_fn=TopDownBlock, attn_layer=layer, **kwargs)

    @property
    def stages(self) -> list[Stage]:
        return [Stage(self._steered_blocks, self.embed_dim)]

    @property
    def _steered_blocks(self) -> Sequence[TopDownBlock]:
        return cast("Sequence[TopDownBlock]", self.blocks)

    @property
    def _position_table(self) -> Tensor:
        assert self.pos_embed is not None, "the trunk is made with a position table"
        return self.pos_embed

    @property
    def tokens_with_position(self) -> int:
        """Prefix tokens that have a row in the table of positions."""
        return self.num_prefix_tokens

    @property
    def image_size(self) -> tuple[int, int]:
        return self.patch_embed.img_size

    def grids(self, image_size: Grid | None = None) -> list[Grid]:
        return [self.patch_embed.dynamic_feat_size(image_size) if image_size else self.patch_embed.grid_size]

    def embed_images(self, images: Tensor) -> Tensor:
        return self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images))))

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Tokens with positions, of patches (I, rows, columns, D) of an image of any size, or as timm does it."""
        if x.ndim != 4 or self.position_rule == "timm":
            return super()._pos_embed(x)
        before, prefix = self.patch_embed.grid_size, self.tokens_with_position
        table = RESAMPLE[self.position_rule](self._position_table, (x.shape[1], x.shape[2]), before, prefix)
        patches = x.flatten(1, 2) + table[:, prefix:]
        others = [token.expand(len(x), -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        if prefix and others:
            others = [torch.cat(others, dim=1) + table[:, :prefix]]
        return self.pos_drop(torch.cat([*others, patches], dim=1))

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens)

    def positions(self) -> Tensor:
        return self._position_table[0, -self.patch_embed.num_patches :].detach()

    def cls_attention(self, states: list[Tensor], signals: list[Steered] | None) -> Tensor:
        block = self._steered_blocks[-1]
        projections = block.project(states[-2], None if signals is None else signals[-1])
        return block.attn.weights(projections, queries=slice(1))[:, :, 0]

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        return as_plain_vit(state)

    def resample(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Resample position table and patch kernels of any number of pixels.

        timm's bicubic interpolation resamples positions. Kernels are resampled so that their output for a resized patch
        stays the same (FlexiViT, arXiv:2212.08013).
        """
        resampled, own = {}, self.patch_embed.proj.weight
        kernel, positions = state.get(PATCHES), state.get(POSITIONS)
        if kernel is not None and kernel.ndim == 2 and kernel.shape[1] == own[0].numel():  # timm's earliest ViTs
            resampled[PATCHES] = kernel.reshape(-1, *own.shape[1:])
        elif kernel is not None and kernel.ndim == 4 and kernel.shape[2:] != own.shape[2:]:
            resampled[PATCHES] = resample_patch_embed(kernel, list(own.shape[2:]))
        if positions is not None and positions.ndim == 3 and positions.shape[1] != self._position_table.shape[1]:
            rule, grid = RESAMPLE[self.position_rule], self.patch_embed.grid_size
            resampled[POSITIONS] = rule(positions, grid, None, self.tokens_with_position)
        return resampled

    def describe(self) -> str:
        heads, patch = self._steered_blocks[0].attn.num_heads, self.patch_embed.patch_size[0]
        return f"{self.embed_dim} wide, {len(self.blocks)} blocks, {heads} heads, patches of {patch} pixels"


class AbSViT(VisualEncoder, ViT):  # type: ignore[misc]  # functions for features take priors in place of masks
    """A ViT that looks twice; keyword arguments are those of ``VisualEncoder`` and of timm's ``VisionTransformer``."""

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove parts that blocks ``indices`` do not need. A second look needs the whole first look and its norm."""
        wanted = indices if isinstance(indices, int) else list(indices)
        if not self.looks_twice:
            return super().prune_intermediate_layers(wanted, prune_norm, prune_head)
        taken, _ = feature_take_indices(len(self.blocks), wanted)
        if prune_head:
            self.fc_norm = nn.Identity()
            self.reset_classifier(0, "")
        return taken


def _keep_new_parameters(state: dict[str, Tensor], model: AbSViT) -> dict[str, Tensor]:
    """A plain ViT's weights in the shapes of ``model``: positions and patches are resampled, new parameters kept."""
    own = {key: value for key, value in model.state_dict().items() if key.startswith(OWN)}
    return own | checkpoint_filter_fn(state, model)


# ImageNet weights of the plain twins, which give the trunk its pixel statistics. Tiny with patch 8 has none.
TAGS = {
    "tiny_patch16_224": "augreg_in21k_ft_in1k",
    "tiny_patch8_224": None,
    "small_patch16_224": "augreg_in1k",
    "small_patch8_224": "dino",
    "base_patch16_224": "augreg_in1k",
    "base_patch8_224": "augreg_in21k_ft_in1k",
}
HEADS = {"tiny": 3, "small": 6, "base": 12}
# Xavier's deviation follows the width. timm's default, 0.02, suits the base width; narrow models train slowly with it.
TRAINING = {"weight_init": "jax"}
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


def _sizes(size: str, patch: int) -> dict[str, int]:
    return {"patch_size": patch, "embed_dim": 64 * HEADS[size], "depth": 12, "num_heads": HEADS[size]}


MODELS = {
    f"absvit_{size}_patch{patch}_224": TrunkModel(
        _sizes(size, patch), f"vit_{size}_patch{patch}_224", TRAINING, attentions=ATTENTIONS, any_size=ANY_SIZE
    )
    for size in HEADS
    for patch in (16, 8)
}


def _config_of_twin(name: str, tag: str | None) -> dict[str, Any] | PretrainedCfg:
    """timm's facts about the weights of a plain twin; none without weights."""
    twin = get_pretrained_cfg(f"vit_{name}.{tag}") if tag else None
    return {} if twin is None else twin.to_dict()


default_cfgs = generate_default_cfgs(
    {"vit_tiny_patch8_224": {}, **{f"absvit_{name}": _config_of_twin(name, tag) for name, tag in TAGS.items()}}
)


for _name, _model in MODELS.items():
    register(__name__, _name, AbSViT, _model.sizes, pretrained_filter_fn=_keep_new_parameters)
# The one bottom-up twin that timm does not register itself.
register(__name__, "vit_tiny_patch8_224", VisionTransformer, _sizes("tiny", 8))
