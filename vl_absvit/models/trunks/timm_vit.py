"""Any VisionTransformer of timm as a trunk, by timm's name: CLIP's, DINOv2's, DeiT-III's, SigLIP's and others.

What timm builds into them stays: registers, no CLS token, a norm before the blocks, QuickGELU, SwiGLU, LayerScale,
norms of queries and keys, positions of patches alone. Only the blocks' attention is replaced by one with the same
weights that can be steered. Shapes: N patches, D width.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import timm
import torch
from timm.layers import Attention, PatchEmbed
from timm.models import generate_default_cfgs, register_model
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vl_absvit.errors import ConfigError, InputError, one_line
from vl_absvit.models.attention import TopDownBlock, attention_layer
from vl_absvit.models.trunks.base import Dropped, ForeignTrunk, TrunkModel
from vl_absvit.models.trunks.vit import ANY_SIZE, POSITIONS, AbSViT, ViT
from vl_absvit.models.trunks.vit_forms import as_timms_vit, is_square
from vl_absvit.variants import TopDown

ENTRY = "absvit"
"""The name under which timm makes all of them: ``timm.create_model("absvit", trunk="vit_small_patch14_dinov2")``."""
MODULES = ("timm.models.vision_transformer", "timm.models.deit")
"""Where timm's models of this kind are, among others."""
CLS_POSITION = "with the position of CLS, which the table here lacks"
WITHOUT_CLS_ROW = "without the row of CLS, which is added to the token"


class TimmViT(ViT):
    """timm's VisionTransformer of a name.

    Args:
        top_down: as in ``Trunk``.
        trunk: timm's name.
        others: those of ``timm.create_model``. Pooling takes the CLS token, or the mean patch where there is none, and
            the final norm stands on every token.
    """

    def __init__(self, *, top_down: TopDown, trunk: str, global_pool: str = "token", **others: Any) -> None:
        nn.Module.__init__(self)
        if not _plain(trunk).has_class_token:
            global_pool = "avg"
        arguments: dict[str, Any] = {"fc_norm": False} | others | {"global_pool": global_pool}
        try:
            made = timm.create_model(trunk, block_fn=TopDownBlock, attn_layer=attention_layer(top_down), **arguments)
        except AssertionError as error:
            raise ConfigError(f"vision.model {trunk}: timm cannot make it in these sizes: {one_line(error)}") from error
        self.__dict__.update(made.__dict__)  # only timm knows how a model of that name is put together

    @property
    def has_cls(self) -> bool:
        return self.has_class_token

    @property
    def tokens_with_position(self) -> int:
        return 0 if self.no_embed_class else self.num_prefix_tokens

    def read_foreign(self, state: Mapping[str, Tensor]) -> ForeignTrunk:
        """The trunk in a file. Blocks after the last one here are cut off, and so is the norm after them."""
        found = self._with_positions(as_timms_vit(state))
        depth, kept, dropped = len(self.blocks), {}, list(found.dropped)
        numbers = {name: int(name.split(".")[1]) for name in found.state if name.startswith("blocks.")}
        is_cut = max(numbers.values(), default=0) >= depth
        for name, value in found.state.items():
            if numbers.get(name, 0) >= depth:
                dropped.append(Dropped(found.prefix + name, value.numel(), f"cut off: vision.depth is {depth}"))
            elif is_cut and name.startswith("norm."):
                reason = "it belongs to the last block, which is cut off"
                dropped.append(Dropped(found.prefix + name, value.numel(), reason))
            else:
                kept[name] = value
        if is_cut:  # the norm starts as one that changes no scale
            kept |= {f"norm.{name}": value.detach().clone() for name, value in self.norm.named_parameters()}
        return found._replace(state=kept, dropped=dropped)

    def _with_positions(self, found: ForeignTrunk) -> ForeignTrunk:
        """Positions of as many tokens as here. DINOv2's releases have one of CLS, which timm adds to the token."""
        state, remarks, positions = dict(found.state), dict(found.remarks), found.state.get(POSITIONS)
        if positions is None or positions.ndim != 3:
            return found
        rows, others = positions.shape[1], self.tokens_with_position
        if self.no_embed_class and "cls_token" in state and not is_square(rows) and is_square(rows - 1):
            state["cls_token"], remarks["cls_token"] = state["cls_token"] + positions[:, :1], CLS_POSITION
            state[POSITIONS], remarks[POSITIONS] = positions[:, 1:], WITHOUT_CLS_ROW
        elif not is_square(rows - others):
            raise InputError(f"pos_embed has {rows} rows: expected those of a square grid and {others} more")
        return found._replace(state=state, remarks=remarks)


class TimmAbSViT(AbSViT, TimmViT):  # type: ignore[misc]  # as AbSViT
    """timm's VisionTransformer of a name, looking twice; arguments are those of ``VisualEncoder`` and ``TimmViT``."""


@cache
def _plain(name: str) -> VisionTransformer:
    """timm's model of a name without memory for weights."""
    with torch.device("meta"):
        return cast(VisionTransformer, timm.create_model(name, num_classes=0, weight_init="skip"))


@cache
def find_timm_vit(name: str) -> TrunkModel | None:
    """A VisionTransformer of timm as a trunk; None if timm has no model of that name.

    Raises ``ConfigError`` if the model is none, or has parts whose values cannot be steered.
    """
    if not timm.is_model(name) or name == ENTRY:
        return None
    expected = f"vision.model {name}: expected a VisionTransformer of timm with standard blocks"
    module = timm.models.model_entrypoint(name).__module__
    if module not in MODULES:
        raise ConfigError(f"{expected}, got a model of {module}")
    architecture, dot, _ = name.partition(".")
    if dot and name not in (known := timm.list_pretrained(f"{architecture}.*")):
        raise ConfigError(
            f"vision.model {name}: timm has no such weights; expected {' or '.join(known[:9]) or 'no dot'}"
        )
    model = _plain(name)
    if reason := _unfit(model):
        raise ConfigError(f"{expected}, got {reason}")
    blocks = cast("Sequence[Block]", model.blocks)
    sizes = {"patch_size": model.patch_embed.patch_size[0], "embed_dim": model.embed_dim}
    sizes |= {"depth": len(blocks), "num_heads": blocks[0].attn.num_heads}
    return TrunkModel(sizes, name, any_size=ANY_SIZE, entry=ENTRY)


def _unfit(model: nn.Module) -> str | None:
    """What keeps a model from being a trunk; None if nothing does."""
    if type(model) is not VisionTransformer:
        return f"a {type(model).__name__}"
    if type(model.patch_embed) is not PatchEmbed or model.pos_embed is None:
        return "another embedding of patches"
    for block in model.blocks:
        if type(block) is not Block or type(block.attn) is not Attention:
            return f"{type(block).__name__} with {type(getattr(block, 'attn', block)).__name__}"
        attention = block.attn
        is_scaled = not isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        if is_scaled or getattr(attention, "gate", None) is not None or attention.proj.in_features != model.embed_dim:
            return "attention with a gate, a norm of its output or heads of another width"
    return None


default_cfgs = generate_default_cfgs({ENTRY: {}})


@register_model
def absvit(pretrained: bool = False, *, trunk: str, **kwargs: Any) -> TimmAbSViT:
    """An AbSViT on timm's VisionTransformer named ``trunk``, with that model's weights if ``pretrained``."""
    return TimmAbSViT(trunk=trunk, pretrained=pretrained, **kwargs)
