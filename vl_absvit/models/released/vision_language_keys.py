"""The released vision-language models' names, and ours."""

from collections.abc import Mapping

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.released import trunk
from vl_absvit.models.released.key_map import HeadKind, KeyMap

_ATTENTION = {
    "self.query.*": "query.*",
    "self.key.*": "key.*",
    "self.value.*": "value.*",
    "output.dense.*": "out.*",
    "output.LayerNorm.*": "norm.*",
}
_LAYER = {
    **{f"attention.{released}": f"self_attention.{ours}" for released, ours in _ATTENTION.items()},
    **{f"crossattention.{released}": f"cross_attention.{ours}" for released, ours in _ATTENTION.items()},
    "intermediate.dense.*": "feed_forward.expand.*",
    "output.dense.*": "feed_forward.contract.*",
    "output.LayerNorm.*": "feed_forward.norm.*",
}
_STREAM = {  # of one stream, text or image
    "transform.*": "transform.*",
    "pooler.dense.*": "pooler.linear.*",
    **{f"layers.{{n}}.{released}": f"layers.{{n}}.{ours}" for released, ours in _LAYER.items()},
}
_BODY = {
    **{f"vit_model.{released}": ours for released, ours in trunk.KEYS.items()},
    "vit_model.prompt_decoder.*": "prior.project.*",
    "text_transformer.embeddings.*": "text.roberta.embeddings.*",
    "text_transformer.encoder.layer.{n}.*": "text.roberta.encoder.layer.{n}.*",
    "token_type_embeddings.weight": "fusion.token_types.weight",
    **{
        f"cross_modal_{stream}_{released}": f"fusion.{stream}_{ours}"
        for stream in ("text", "image")
        for released, ours in _STREAM.items()
    },
}
_ITM = {"itm_score.fc.*": "head.itm.*"}
_HEADS: dict[HeadKind, dict[str, str]] = {  # released templates name the kind of head
    "vqa": {"vqa_classifier.{n}.*": "head.{n}.*"},
    "matching": _ITM | {"rank_output.*": "head.rank.*"},
    "pretraining": _ITM
    | {
        "mlm_score.transform.dense.*": "head.mlm.dense.*",
        "mlm_score.transform.LayerNorm.*": "head.mlm.norm.*",
        "mlm_score.decoder.weight": "head.mlm.decoder.weight",
        "mlm_score.bias": "head.mlm.decoder.bias",
    },
    "nlvr2": {"nlvr2_classifier.{n}.*": "head.classifier.{n}.*"},
    "snli": {"snli_classifier.{n}.*": "head.{n}.*"},
}
_MODULES_OF_HEADS = {kind: {name.split(".")[0] for name in templates} for kind, templates in _HEADS.items()}
_IGNORED = {
    "vit_model.head.*": "a classifier of the ViT that the release builds and never calls",
    "text_transformer.pooler.*": "RoBERTa's pooler, which the release never calls",
    "text_transformer.embeddings.position_ids": "no weight: the numbers 0, 1, 2, ...",
}
KEYS = {kind: KeyMap(_BODY | templates, _IGNORED) for kind, templates in _HEADS.items()}
REASONS = {f"vit_model.{key}": why for key, why in trunk.LAYER_SCALE.items()}


def kind_of_head(state: Mapping[str, Tensor], location: str) -> HeadKind:
    """The kind of head that a released state has."""
    all_heads = set().union(*_MODULES_OF_HEADS.values())
    found = {key.split(".", 1)[0] for key in state} & all_heads
    for kind, modules in _MODULES_OF_HEADS.items():
        if found == modules:
            return kind
    known = "; ".join(" and ".join(sorted(modules)) for modules in _MODULES_OF_HEADS.values())
    raise InputError(f"{location}: expected the heads of one task ({known}), got {', '.join(sorted(found)) or 'none'}")
