"""Build models with the start weights of a configuration."""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vl_absvit.config import SegmentationConfig, VisionConfig, VisionLanguageConfig
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
from vl_absvit.models.start_weights import Fit, Fittable, fit_new, load_segmenter_start, load_start, load_trunk
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
    return _settled(model, config, _load_trunk(model, config, classes), fit)


def build_segmenter(
    config: SegmentationConfig, num_classes: int, classes: LabelMatch | None = None, fit: Fit | None = None
) -> Segmenter:
    """A segmenter for finetuning with the config's start weights, for the whole or for its trunk.

    Args:
        classes: the classes, matched with those of the checkpoint to start from; None where there is none.
        fit: as in ``build_model``.
    """
    model = build_random_segmenter(config.vision, num_classes, config.head, config.loss.auxiliary > 0)
    if config.from_checkpoint is None:
        entries = _load_trunk(model, config.vision, None)
    else:
        assert classes is not None, "a segmenter to start from has classes"
        entries = load_segmenter_start(model, config.from_checkpoint, classes)
    return _settled(model, config.vision, entries, fit)


def _load_trunk(model: VisionModel, config: VisionConfig, classes: LabelMatch | None) -> list[Entry]:
    """Load the start weights of a vision task's trunk, if there are any."""
    return [] if config.weights is None else load_trunk(model.vision, config.weights, config.model, classes)


def _settled(model: AnyVisionModel, config: VisionConfig, entries: list[Entry], fit: Fit | None) -> AnyVisionModel:
    """The model of a vision task with what is fitted to the weights that it was given."""
    model.vision.set_grad_checkpointing(config.gradient_checkpointing)
    if fit is not None:
        entries += fit_new(model.vision, entries, parts_to_fit(config), fit)
    log.info(load_table(model, entries))
    return model


def parts_to_fit(config: VisionConfig) -> tuple[Fittable, ...]:
    """What of a trunk is fitted to what it sees, where its start weights hold none."""
    return ("decoders", "mean_token") if config.decoders == "closed_form" else ("mean_token",)
