"""Build models with the start weights of a configuration."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vl_absvit.config import UPerNetConfig, VisionConfig, VisionLanguageConfig
from vl_absvit.models.architecture import (
    architecture_of,
    build_from_architecture,
    build_random_classifier,
    build_random_segmenter,
    text_config,
)
from vl_absvit.models.heads import Classifier
from vl_absvit.models.labels import LabelMatch
from vl_absvit.models.load_report import Entry, load_table
from vl_absvit.models.looks import VisionModel
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.models.start_weights import Fit, Fittable, fit_new, load_start, load_trunk
from vl_absvit.models.text_weights import read_text_weights
from vl_absvit.models.vl_model import VLAbSViT

log = logging.getLogger(__name__)

AnyVisionModel = TypeVar("AnyVisionModel", bound=VisionModel)


def build_model(
    config: VisionLanguageConfig,
    head: Mapping[str, Any],
    sentence: str | None,
    tokenizer: PreTrainedTokenizerBase,
    labels: LabelMatch | None = None,
    fit: Fit | None = None,
) -> VLAbSViT:
    """A model for finetuning with the config's start weights, for all parts or for vision and text.

    Args:
        config: the run's configuration.
        head: the head in the architecture, such as ``{"kind": "vqa", "num_answers": 3129}``.
        sentence: the vector of a text that becomes its prior; None if there is no prior.
        tokenizer: the text encoder's tokenizer.
        labels: the head's labels, matched with those of the checkpoint to start from; None if that has none.
        fit: see ``fit_new``; None leaves new decoders random, and the mean token 0, whatever the configuration says.
    """
    of_text = text_config(config.text, tokenizer)
    text: dict[str, Tensor] = {}
    entries: list[Entry] = []
    if config.text.model and config.from_checkpoint is None:
        # Weights are read first. So a config.json that does not fit them takes no memory.
        text, entries = read_text_weights(config.text.model, of_text.model_type)
    model = build_from_architecture(architecture_of(config, of_text, head, sentence), location="config")
    model.vision.set_grad_checkpointing(config.vision.gradient_checkpointing)
    if config.from_checkpoint is not None:
        entries = load_start(model, config.from_checkpoint, labels)
    elif config.vision.weights is not None:
        entries = load_trunk(model.vision, config.vision.weights, config.vision.model) + entries
    if fit is not None:
        entries += fit_new(model.vision, entries, parts_to_fit(config.vision), fit)
    if text:
        model.text.roberta.load_state_dict(text)
    log.info(load_table(model, entries))
    return model


def build_classifier(
    config: VisionConfig,
    num_classes: int,
    pooling: str = "token",
    classes: LabelMatch | None = None,
    fit: Fit | None = None,
) -> Classifier:
    """A classifier for pretraining with its start weights.

    Args:
        pooling: ``token`` or ``avg``.
        classes: the classes, matched with those of the classifier in ``weights``; None if that names none.
        fit: as in ``build_model``.
    """
    # The final norm comes before average pooling, too, so that the trunk's output is the same for every use.
    model = build_random_classifier(config, num_classes, pooling=pooling, norm_follows=False)
    return _with_start_weights(model, config, classes, fit)


def build_segmenter(
    config: VisionConfig, num_classes: int, head: UPerNetConfig, has_auxiliary: bool, fit: Fit | None = None
) -> Segmenter:
    """A segmenter for finetuning with its trunk's start weights.

    Args:
        has_auxiliary: as in ``build_random_segmenter``.
        fit: as in ``build_model``.
    """
    model = build_random_segmenter(config, num_classes, head, has_auxiliary)
    return _with_start_weights(model, config, None, fit)


def _with_start_weights(
    model: AnyVisionModel, config: VisionConfig, classes: LabelMatch | None, fit: Fit | None
) -> AnyVisionModel:
    """The model of a vision task with its trunk's start weights, and with what is fitted to them."""
    model.vision.set_grad_checkpointing(config.gradient_checkpointing)
    entries = []
    if config.weights is not None:
        entries = load_trunk(model.vision, config.weights, config.model, classes)
    if fit is not None:
        entries += fit_new(model.vision, entries, parts_to_fit(config), fit)
    log.info(load_table(model, entries))
    return model


def parts_to_fit(config: VisionConfig) -> tuple[Fittable, ...]:
    """What of a trunk is fitted to what it sees, where its start weights hold none."""
    return ("decoders", "mean_token") if config.decoders == "closed_form" else ("mean_token",)
