"""From a configuration to modules: the only part of the model that knows the config's field names."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerBase, RobertaConfig

from vl_absvit.config import FusionConfig, TextConfig, VisionConfig, VisionLanguageConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.absvit import BASE, SMALL, TINY, AbSViT
from vl_absvit.models.fusion import CoAttentionFusion
from vl_absvit.models.heads import Classifier, MatchingHead, NLVR2Head, PretrainingHead, SNLIHead, VQAHead
from vl_absvit.models.labels import LabelMatch
from vl_absvit.models.load_report import load_table
from vl_absvit.models.prior import PriorProjection
from vl_absvit.models.start_weights import fit_new_decoders, load_start, load_trunk
from vl_absvit.models.text_encoder import TextEncoder, longest_text, unfit
from vl_absvit.models.text_weights import read_roberta
from vl_absvit.models.vl_model import VLAbSViT

log = logging.getLogger(__name__)

FORMAT = 2
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LAYERS = 200


def build_model(
    config: VisionLanguageConfig,
    head: Mapping[str, Any],
    sentence: str | None,
    tokenizer: PreTrainedTokenizerBase,
    labels: LabelMatch | None = None,
    fit: Callable[[AbSViT], str] | None = None,
) -> VLAbSViT:
    """A model for finetuning with the start weights that the config names: of all parts, else of vision and text.

    Args:
        config: the run's configuration.
        head: the architecture's part, such as ``{"kind": "vqa", "num_answers": 3129}``.
        sentence: which vector of a text becomes its prior; None where there is no prior.
        tokenizer: the text encoder's tokenizer.
        labels: the head's labels beside those of the checkpoint to start from; None where that has none.
        fit: see ``fit_new_decoders``; None leaves new decoders random, whatever the configuration says.
    """
    roberta = roberta_config(config.text, tokenizer)
    text, entries = {}, []
    if config.text.model and config.from_checkpoint is None:
        # Read first: a config.json that does not describe the weights beside it takes no memory this way.
        text, entries = read_roberta(config.text.model)
    model = build_from_architecture(architecture_of(config, roberta, head, sentence), where="config")
    model.vision.set_grad_checkpointing(config.vision.gradient_checkpointing)
    if config.from_checkpoint is not None:
        entries = load_start(model, config.from_checkpoint, labels)
    elif config.vision.weights is not None:
        entries = load_trunk(model.vision, config.vision.weights, config.vision.model) + entries
    if fit is not None and config.vision.decoders == "closed_form":
        entries += fit_new_decoders(model.vision, entries, fit)
    if text:
        model.text.roberta.load_state_dict(text)
    log.info(load_table(model, entries))
    return model


def architecture_of(
    config: VisionLanguageConfig, text: RobertaConfig, head: Mapping[str, Any], sentence: str | None
) -> dict[str, Any]:
    """What ``config.json`` of a model says; ``head`` and ``sentence`` are those of ``build_model``."""
    vision = asdict(config.vision) | {"weights": None, "gradient_checkpointing": False}
    del vision["decoders"]  # of how training starts
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


def build_from_architecture(architecture: Mapping[str, Any], where: str) -> VLAbSViT:
    """The model that a checkpoint's ``config.json`` describes, with random weights.

    Args:
        architecture: content of ``config.json``.
        where: named in errors.
    """
    if architecture.get("format") != FORMAT or "vision" not in architecture:
        raise InputError(
            f"{where}: expected a vl_absvit architecture of format {FORMAT}, got {sorted(architecture)[:6]}"
        )
    vision_config, text_config = VisionConfig(**architecture["vision"]), RobertaConfig.from_dict(architecture["text"])
    fusion = FusionConfig(**architecture["fusion"])
    for part, layers in (
        ("vision", vision_config.depth or 0),
        ("text", text_config.num_hidden_layers),
        ("fusion", fusion.num_layers),
    ):
        check_layers(layers, f"{where}: {part}")
    vision = build_vision(vision_config, num_classes=0)
    text = TextEncoder(text_config)
    sentence = architecture["sentence"]
    if sentence is None and vision.uses_prior:
        raise InputError(f"{where}: the vision {vision.variant.label} needs a prior, but 'sentence' is null")
    prior = sentence and PriorProjection(text_width=text.width, vision_width=vision.embed_dim, sentence=sentence)
    return VLAbSViT(
        vision=vision,
        text=text,
        prior=prior,
        pool=architecture["pool"],
        fusion=CoAttentionFusion(text_width=text.width, vision_width=vision.embed_dim, **asdict(fusion)),
        head=_build_head(architecture["head"], fusion.width, where),
        architecture=dict(architecture),
        padded_length=architecture.get("padded_length"),  # older checkpoints do not have it
    )


def check_layers(layers: int, where: str) -> None:
    """Raise ``InputError`` where a foreign ``config.json`` asks for so many layers that building them never ends."""
    if layers > MAX_LAYERS:
        raise InputError(f"{where}: expected at most {MAX_LAYERS:,} layers, got {layers:,}")


def _build_head(head: Mapping[str, Any], width: int, where: str) -> nn.Module:
    if head["kind"] == "vqa":
        return VQAHead(width=width, num_answers=head["num_answers"])
    if head["kind"] == "matching":
        ranks_by = head.get("ranks_by", "rank")
        if ranks_by not in ("rank", "itm"):
            raise InputError(f"{where}: expected a head that ranks by rank or itm, got {ranks_by!r:.60}")
        return MatchingHead(width=width, ranks_by=ranks_by)
    if head["kind"] == "pretraining":
        return PretrainingHead(width=width, vocab_size=head["vocab_size"])
    if head["kind"] == "nlvr2":
        return NLVR2Head(width=width)
    if head["kind"] == "snli":
        return SNLIHead(width=width)
    raise InputError(
        f"{where}: expected a head of kind vqa, matching, pretraining, nlvr2 or snli, got {head['kind']!r}"
    )


def build_classifier(
    config: VisionConfig,
    num_classes: int,
    pooling: str = "token",
    classes: LabelMatch | None = None,
    fit: Callable[[AbSViT], str] | None = None,
) -> Classifier:
    """A classifier for pretraining with its start weights.

    Args:
        pooling: ``token`` or ``avg``.
        classes: the classes beside those of the classifier in ``weights``; None where that names none.
        fit: as in ``build_model``.
    """
    # With average pooling the final norm stays before the pooling, so that the trunk ends alike for every use.
    model = build_random_classifier(config, num_classes, pooling=pooling, norm_follows=False)
    model.vision.set_grad_checkpointing(config.gradient_checkpointing)
    entries = []
    if config.weights is not None:
        entries = load_trunk(model.vision, config.weights, config.model, classes)
    if fit is not None and config.decoders == "closed_form":
        entries += fit_new_decoders(model.vision, entries, fit)
    log.info(load_table(model, entries))
    return model


def build_random_classifier(config: VisionConfig, num_classes: int, *, pooling: str, norm_follows: bool) -> Classifier:
    """The visual encoder with a classification head, and with a trainable query as prior if it uses one.

    Args:
        pooling: ``token`` or ``avg``.
        norm_follows: whether the final norm stands after the pooling.
    """
    return Classifier(
        build_vision(config, num_classes, trainable_prior=True, global_pool=pooling, fc_norm=norm_follows)
    )


def build_vision(config: VisionConfig, num_classes: int, trainable_prior: bool = False, **kwargs) -> AbSViT:
    """The visual encoder, from timm's registry, with random weights."""
    _check_name(config)
    sizes = {
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
    }
    patch = config.patch_size or int(config.model.split("_patch")[1].split("_")[0])
    if config.image_size % patch:
        raise ConfigError(f"vision.image_size {config.image_size} is not a multiple of the patch size {patch}")
    default = {"tiny": TINY, "small": SMALL, "base": BASE}[config.model.split("_")[1]]
    width, heads = config.width or default["embed_dim"], config.num_heads or default["num_heads"]
    if width % heads:
        raise ConfigError(f"vision.width {width} does not divide into {heads} heads")
    return timm.create_model(
        config.model,
        img_size=config.image_size,
        num_classes=num_classes,
        top_down=config.top_down,
        modulation=config.modulation,
        gain=config.gain,
        mask=config.mask,
        trainable_prior=trainable_prior,
        drop_path_rate=config.drop_path,
        # Xavier's deviation follows the width; timm's default, 0.02, suits the base width only and trains narrow models
        # slowly.
        weight_init="jax",
        **{name: value for name, value in sizes.items() if value is not None},
        **kwargs,
    )


def image_statistics(config: VisionConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels, per channel, that the visual encoder expects."""
    if config.image_statistics == "clip":
        return CLIP_MEAN, CLIP_STD
    if config.image_statistics == "imagenet":
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    _check_name(config)
    backbone = timm.get_pretrained_cfg(config.model)
    return backbone.mean, backbone.std


def _check_name(config: VisionConfig) -> None:
    names = timm.list_models("absvit_*")
    if config.model not in names:
        raise ConfigError(f"vision.model: {config.model!r} is not one of {', '.join(names)}")


def read_roberta_config(name: str) -> RobertaConfig:
    """The architecture of ``text.model``, a folder or hub name; ``ConfigError`` where it is no RoBERTa."""
    try:
        roberta = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the library's checks of single fields raise whatever they like
        raise ConfigError(f"text.model {name}: no RoBERTa there: {_first_line(error)}") from error
    if not isinstance(roberta, RobertaConfig):
        raise ConfigError(
            f"text.model {name}: expected a RoBERTa, got {roberta.model_type}; those whose config.json says model_type "
            "roberta work, such as roberta-base, roberta-large and distilroberta-base"
        )
    if type(roberta.pad_token_id) is not int:
        raise ConfigError(f"text.model {name}: expected a pad_token_id, from which RoBERTa counts positions, got none")
    check_layers(roberta.num_hidden_layers, f"text.model {name}")
    return roberta


def roberta_config(config: TextConfig, tokenizer: PreTrainedTokenizerBase) -> RobertaConfig:
    """The text encoder's architecture: that of ``model``, or one from scratch for the tokenizer.

    Raises:
        ConfigError: encoder, tokenizer and ``max_tokens`` do not go together.
    """
    if config.model is not None:
        roberta = read_roberta_config(config.model)
        if reason := unfit(tokenizer, roberta.to_dict()):
            pair = f"text.tokenizer {config.tokenizer or config.model} does not fit text.model {config.model}"
            raise ConfigError(f"{pair}: {reason}")
    else:
        roberta = RobertaConfig(
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
    if len(tokenizer) > roberta.vocab_size:
        raise ConfigError(
            f"text.tokenizer has {len(tokenizer)} tokens, the text encoder {roberta.vocab_size}: "
            "they do not belong together"
        )
    longest = longest_text(roberta)
    if config.max_tokens > longest:
        raise ConfigError(
            f"text.max_tokens {config.max_tokens} is more than the {longest} positions of the text encoder"
        )
    return roberta


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
