"""From a configuration, or a checkpoint's ``config.json``, to modules with random weights.

In the models, only this file and ``build.py`` know the config's field names.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerBase, RobertaConfig

from vl_absvit.config import FusionConfig, TextConfig, UPerNetConfig, VisionConfig, VisionLanguageConfig
from vl_absvit.errors import ConfigError, InputError, first_line
from vl_absvit.models.fusion import CoAttentionFusion
from vl_absvit.models.heads import HEADS, Classifier, NLVR2Head
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.prior import PriorProjection
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.models.text_encoder import KINDS, TextEncoder, TextModelConfig, longest_text, unfit
from vl_absvit.models.trunks.registry import trunk_named
from vl_absvit.models.vl_model import VLAbSViT

FORMAT = 2
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LAYERS = 200
SIZES = {"patch_size": "patch_size", "width": "embed_dim", "depth": "depth", "num_heads": "num_heads"}
"""Fields of ``VisionConfig`` -> timm's arguments."""
VARS_OPTIONS = {"vars_penalty": "lam", "vars_steps": "steps", "vars_ratio": "ratio", "vars_generation": "generation"}
"""Fields of ``VisionConfig`` -> arguments of the attention layer."""


def architecture_of(
    config: VisionLanguageConfig, text: TextModelConfig, head: Mapping[str, Any], sentence: str | None
) -> dict[str, Any]:
    """The content of a model's ``config.json``. ``head`` and ``sentence`` are those of ``build_model``."""
    vision = asdict(config.vision) | {"weights": None, "gradient_checkpointing": False}
    del vision["decoders"]  # it matters only for the start of training
    return {
        "format": FORMAT,
        "vision": vision,
        "text": text.to_dict(),
        "sentence": sentence,
        "padded_length": config.text.max_tokens if sentence == "padded_mean" else None,
        "pool": config.prior.pool,
        "fusion": asdict(config.fusion),
        "head": dict(head),
    }


def build_from_architecture(architecture: Mapping[str, Any], location: str) -> VLAbSViT:
    """The model that a checkpoint's ``config.json`` describes, with random weights.

    Args:
        architecture: content of ``config.json``.
        location: the file, for messages.
    """
    if architecture.get("format") != FORMAT or "vision" not in architecture:
        raise InputError(
            f"{location}: expected a vl_absvit architecture of format {FORMAT}, got {sorted(architecture)[:6]}"
        )
    vision_config, of_text = VisionConfig(**architecture["vision"]), _text_config_of(architecture["text"], location)
    fusion = FusionConfig(**architecture["fusion"])
    for part, layers in (
        ("vision", sum(per_stage(vision_config.depth or 0))),
        ("text", of_text.num_hidden_layers),
        ("fusion", fusion.num_layers),
    ):
        check_layers(layers, f"{location}: {part}")
    vision = build_vision(vision_config, num_classes=0)
    text = TextEncoder(of_text)
    sentence = architecture["sentence"]
    if sentence is None and vision.uses_prior:
        raise InputError(f"{location}: the vision {vision.variant.label} needs a prior, but 'sentence' is null")
    if architecture["pool"] == "cls" and not vision.has_cls:
        raise ConfigError(f"prior.pool cls: vision.model {vision_config.model} has no CLS token")
    prior = sentence and PriorProjection(text_width=text.width, vision_width=vision.width, sentence=sentence)
    fused = CoAttentionFusion(
        text_width=text.width, vision_width=vision.width, image_has_cls=vision.has_cls, **asdict(fusion)
    )
    head = _build_head(architecture["head"], fusion.width, location)
    if isinstance(head, NLVR2Head):
        with torch.no_grad():
            head.second_image_type.copy_(fused.image_type)
    return VLAbSViT(
        vision=vision,
        text=text,
        prior=prior,
        pool=architecture["pool"],
        fusion=fused,
        head=head,
        architecture=dict(architecture),
        padded_length=architecture.get("padded_length"),  # older checkpoints do not have it
    )


def check_layers(layers: int, location: str) -> None:
    """Raise ``InputError`` for a number of layers in a foreign ``config.json`` that would take forever to build."""
    if layers > MAX_LAYERS:
        raise InputError(f"{location}: expected at most {MAX_LAYERS:,} layers, got {layers:,}")


def _text_config_of(content: Mapping[str, Any], location: str) -> TextModelConfig:
    kind = content.get("model_type", "roberta")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{location}: expected a text encoder of kind {', '.join(KINDS)}, got {kind!r:.60}")
    config: TextModelConfig = KINDS[kind].config.from_dict(dict(content))
    return config


def _build_head(head: Mapping[str, Any], width: int, location: str) -> nn.Module:
    kind, arguments = head["kind"], {name: value for name, value in head.items() if name != "kind"}
    if not isinstance(kind, str) or kind not in HEADS:
        raise InputError(f"{location}: expected a head of kind {', '.join(HEADS)}, got {kind!r:.60}")
    try:
        return HEADS[kind].build(width=width, **arguments)
    except InputError as error:
        raise InputError(f"{location}: {error}") from error


def build_random_classifier(config: VisionConfig, num_classes: int, *, pooling: str, norm_follows: bool) -> Classifier:
    """The visual encoder with a classification head, and with a trainable query as prior if it uses one.

    Args:
        pooling: ``token`` or ``avg``.
        norm_follows: whether the final norm comes after the pooling.
    """
    vision = build_vision(config, num_classes, trainable_prior=True, global_pool=pooling, fc_norm=norm_follows)
    if pooling == "token" and not vision.pools_token:
        raise ConfigError(f"pooling token: vision.model {config.model} has no CLS token; pooling avg takes the mean")
    return Classifier(vision)


def classifier_from(vision: Mapping[str, Any], num_classes: int, *, pooling: str, norm_follows: bool) -> Classifier:
    """``build_random_classifier`` of the fields of ``VisionConfig`` that a ``config.json`` has."""
    return build_random_classifier(VisionConfig(**vision), num_classes, pooling=pooling, norm_follows=norm_follows)


def build_random_segmenter(
    config: VisionConfig, num_classes: int, head: UPerNetConfig, has_auxiliary: bool
) -> Segmenter:
    """The visual encoder with UPerNet, and with a trainable query as prior if it uses one.

    Args:
        has_auxiliary: whether it has an auxiliary head, for training.
    """
    any_size = trunk_named(config.model).any_size
    if any_size is None and head.positions != "timm":
        raise ConfigError(f"head.positions {head.positions}: vision.model {config.model} is no ViT, whose rule it is")
    vision = build_vision(config, num_classes=0, trainable_prior=True, **(any_size or {}))
    vision.position_rule = head.positions
    return Segmenter(
        vision,
        num_classes,
        channels=head.channels,
        auxiliary_channels=head.auxiliary_channels if has_auxiliary else None,
        dropout=head.dropout,
        neck=head.neck,
        maps=head.maps,
    )


def build_described_segmenter(vision: Mapping[str, Any], segmenter: Mapping[str, Any]) -> Segmenter:
    """The segmenter that these parts of a checkpoint's ``config.json`` describe, with random weights.

    Raises ``KeyError``, ``TypeError`` or ``ConfigError`` where they describe none.
    """
    head = UPerNetConfig(**segmenter["head"])
    classes, has_auxiliary = len(segmenter["classes"]), segmenter["has_auxiliary"]
    return build_random_segmenter(VisionConfig(**vision), classes, head, has_auxiliary)


def build_vision(config: VisionConfig, num_classes: int, trainable_prior: bool = False, **kwargs: Any) -> VisualEncoder:
    """The visual encoder, from timm's registry, with random weights."""
    model = trunk_named(config.model)
    sizes = model.sizes | named_sizes(config)
    for field, name in SIZES.items():
        stages, given = len(per_stage(model.sizes.get(name, 1))), per_stage(sizes.get(name, 1))
        if len(given) != stages:
            raise ConfigError(f"vision.{field}: expected {stages} of {config.model}, one per stage, got {len(given)}")
    if config.image_size % sizes.get("patch_size", 1):
        raise ConfigError(
            f"vision.image_size {config.image_size} is not a multiple of the patch size {sizes['patch_size']}"
        )
    for width, heads in zip(per_stage(sizes["embed_dim"]), per_stage(sizes["num_heads"]), strict=True):
        if width % heads:
            raise ConfigError(f"vision.width {width} does not divide into {heads} heads")
    entry, arguments = model.call(config.model)
    vision = timm.create_model(
        entry,
        **arguments,
        img_size=config.image_size,
        num_classes=num_classes,
        top_down=config.top_down,
        modulation=config.modulation,
        gain=config.gain,
        mask=config.mask,
        centred=config.centred,
        looks_again_from=config.looks_again_from,
        trainable_prior=trainable_prior,
        drop_path_rate=config.drop_path,
        **named_sizes(config),
        **attention_arguments(config),
        **{**model.options, **kwargs},
    )
    assert isinstance(vision, VisualEncoder), f"{config.model} is registered as a visual encoder"
    return vision


def named_sizes(config: VisionConfig) -> dict[str, Any]:
    """The sizes in a configuration as arguments of ``timm.create_model``. Other sizes are the model's own."""
    given = {name: getattr(config, field) for field, name in SIZES.items()}
    return {name: size for name, size in given.items() if size is not None}


def attention_arguments(config: VisionConfig) -> dict[str, Any]:
    """The attention in a configuration as arguments of ``timm.create_model``; none if it is the model's own.

    Raises ``ConfigError`` if the trunk does not have it.
    """
    kind, known = config.attention, trunk_named(config.model).attentions
    if kind is None:
        return {}
    if kind not in known:
        expected = f"expected one of {', '.join(known)}" if known else "it has no other than its own"
        raise ConfigError(f"vision.attention {kind}: not one of vision.model {config.model}: {expected}")
    given = {name: getattr(config, field) for field, name in VARS_OPTIONS.items()}
    options = {name: value for name, value in given.items() if value is not None}
    return {"attention": kind} | ({"attention_options": options} if options else {})


def per_stage(sizes: int | list[int]) -> list[int]:
    """One number per stage of blocks."""
    return sizes if isinstance(sizes, list) else [sizes]


def image_statistics(config: VisionConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels per channel, as the visual encoder expects them."""
    if config.image_statistics == "clip":
        return CLIP_MEAN, CLIP_STD
    if config.image_statistics == "imagenet":
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    trunk_named(config.model)
    backbone = timm.get_pretrained_cfg(config.model)
    if backbone is None:
        raise ConfigError(f"vision.model {config.model}: timm knows no statistics; set vision.image_statistics")
    return backbone.mean, backbone.std


def read_text_config(name: str) -> TextModelConfig:
    """The architecture of ``text.model``, a folder or hub name. Raises ``ConfigError`` unless ``KINDS`` has it."""
    try:
        found = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the library's checks of single fields raise many kinds of errors
        raise ConfigError(f"text.model {name}: no text encoder there: {first_line(error)}") from error
    if type(found) not in (kind.config for kind in KINDS.values()):
        raise ConfigError(
            f"text.model {name}: expected a RoBERTa or a BERT, got {found.model_type}; those whose config.json says "
            f"model_type {', '.join(KINDS)} work, such as roberta-base, distilroberta-base and bert-base-uncased"
        )
    if type(found.pad_token_id) is not int:
        raise ConfigError(f"text.model {name}: expected a pad_token_id, from which RoBERTa counts positions, got none")
    if getattr(found, "is_decoder", False):
        raise ConfigError(f"text.model {name}: expected an encoder, whose tokens see the whole text, got a decoder")
    check_layers(found.num_hidden_layers, f"text.model {name}")
    return cast(TextModelConfig, found)


def text_config(config: TextConfig, tokenizer: PreTrainedTokenizerBase) -> TextModelConfig:
    """The text encoder's architecture: that of ``model``, or one from scratch for the tokenizer.

    Raises:
        ConfigError: encoder, tokenizer and ``max_tokens`` do not fit each other.
    """
    if config.model is not None:
        of_text = read_text_config(config.model)
        if reason := unfit(tokenizer, of_text.to_dict()):
            pair = f"text.tokenizer {config.tokenizer or config.model} does not fit text.model {config.model}"
            raise ConfigError(f"{pair}: {reason}")
    else:
        of_text = RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            # RoBERTa counts positions from the padding id + 1.
            max_position_embeddings=config.max_tokens + tokenizer.pad_token_id + 1,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            initializer_range=0.02 * (768 / config.width) ** 0.5,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    if len(tokenizer) > of_text.vocab_size:
        raise ConfigError(
            f"text.tokenizer has {len(tokenizer)} tokens, the text encoder {of_text.vocab_size}: "
            "they do not belong together"
        )
    longest = longest_text(of_text)
    if config.max_tokens > longest:
        raise ConfigError(
            f"text.max_tokens {config.max_tokens} is more than the {longest} positions of the text encoder"
        )
    return of_text
