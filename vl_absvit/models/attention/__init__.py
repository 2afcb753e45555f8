"""How blocks mix tokens, each kind with a top-down input. ``KINDS`` has them by name.

``softmax.py`` is self-attention and the block around it. The others take its place: ``position_aware.py`` scales logits
by place; ``performer.py`` is attention in linear time; ``global_filter.py`` is GFNet's filter; ``vars_dynamic.py`` and
``vars_static.py`` are attention as sparse reconstruction [VARS], with what they share in ``reconstructing.py``; its
equations are ``random_features.py`` and ``sparse.py``.
[VARS] = Shi et al., "Visual Attention Emerges from Recurrent Sparse Reconstruction", ICML 2022.
"""

from functools import cache, partialmethod
from typing import Any

from vl_absvit.errors import ConfigError
from vl_absvit.models.attention.global_filter import GlobalFilter
from vl_absvit.models.attention.performer import Performer
from vl_absvit.models.attention.position_aware import PositionAwareAttention
from vl_absvit.models.attention.reconstructing import ReconstructingAttention
from vl_absvit.models.attention.softmax import (
    Projections,
    SingleResidualBlock,
    TopDownAttention,
    TopDownBlock,
    TopDownQKVAttention,
    ValueMaskAttention,
)
from vl_absvit.models.attention.vars_dynamic import VARSD, VARSSD
from vl_absvit.models.attention.vars_static import VARSS, VARSSBlock
from vl_absvit.variants import TopDown

__all__ = [
    "KINDS", "VARSD", "VARSS", "VARSSD", "GlobalFilter", "Performer", "PositionAwareAttention", "Projections",
    "ReconstructingAttention", "SingleResidualBlock", "TopDownAttention", "TopDownBlock", "TopDownQKVAttention",
    "VARSSBlock", "ValueMaskAttention", "attention_layer",
]  # fmt: skip
KINDS: dict[str, type[TopDownAttention]] = {
    "softmax": TopDownAttention,
    "position_aware": PositionAwareAttention,
    "performer": Performer,
    "vars_s": VARSS,
    "vars_d": VARSD,
    "vars_sd": VARSSD,
    "global_filter": GlobalFilter,
}
_STEERED_OTHERWISE = {"mask_att": ValueMaskAttention, "absvit_qkv": TopDownQKVAttention}


@cache
def attention_layer(top_down: TopDown, kind: str = "softmax", **options: Any) -> type[TopDownAttention]:
    """The layer of a kind that a variant has in its blocks.

    Args:
        options: arguments of the layer's own, beside those of timm's attention, which makes it of a class alone.

    Raises:
        ConfigError: the variant steers what the kind does not have.
    """
    layer, steering = KINDS[kind], _STEERED_OTHERWISE.get(top_down)
    if top_down == "absvit_qkv" and not layer.has_queries:
        raise ConfigError(f"vision.top_down absvit_qkv: {kind} has no queries to steer; absvit steers its values")
    if not options and (steering is None or kind == "softmax"):
        return steering or layer
    bases = (layer,) if steering is None else (steering, layer)
    return type("".join(base.__name__ for base in bases), bases, {"__init__": partialmethod(layer.__init__, **options)})
