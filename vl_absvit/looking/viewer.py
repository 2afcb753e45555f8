"""A checkpoint as an export sees it: it looks at batches, predicts, and makes maps."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.data.json_files import read_json
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.looking.explanation import (
    MAPS,
    PICTURE_MAPS,
    Explanation,
    MapChoice,
    choose_maps,
    explain,
    explain_pictures,
)
from vl_absvit.looking.geometry import Box, seen_box
from vl_absvit.looking.maps import Heads
from vl_absvit.looking.predictions import Prediction, class_predictions, predictions_of
from vl_absvit.looking.prior_comparison import class_priors
from vl_absvit.models.heads import HEADS
from vl_absvit.models.looks import VisionModel
from vl_absvit.tasks.classifier_checkpoint import ClassifierCheckpoint, load_classifier
from vl_absvit.tasks.folder_weights import CONFIG
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint, load_parts
from vl_absvit.tasks.vqa import VQACheckpoint, with_answers

Checkpoint = VQACheckpoint | VLCheckpoint | ClassifierCheckpoint


class Viewer(NamedTuple):
    """What an export asks of a checkpoint, whatever it was trained for."""

    model: VisionModel
    choice: MapChoice
    explain: Callable[[Any], Explanation]  # of a batch
    predict: Callable[[Any], Sequence[Prediction]]  # of an explanation's logits
    box: Callable[[int, int], Box]  # the part that the model sees of a picture of this width and height
    prior: str | None = None  # the class that steers the second look in place of the classifier's query


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder of a VQA, a retrieval or a pretraining run.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    config = Path(folder) / CONFIG
    if config.is_file() and "classes" in read_json(config, dict):
        return load_classifier(folder)
    checkpoint = load_parts(folder)
    head = checkpoint.model.architecture["head"]["kind"]
    if head == "vqa":
        return with_answers(checkpoint, folder)
    if head != "matching":
        raise InputError(
            f"checkpoint {folder}: expected {HEADS['vqa'].title} or {HEADS['matching'].title}, got {HEADS[head].title}"
        )
    return checkpoint


def make_viewer(
    checkpoint: Checkpoint,
    maps: Sequence[str] | None = None,
    block: int | None = None,
    heads: Heads = "mean",
    prior: str | None = None,
) -> Viewer:
    """A checkpoint that looks at batches, and whose model is on the device to use.

    Args:
        maps, block, heads: see ``choose_maps``.
        prior: a class of a classifier, whose prototype steers the second look; None takes the trained query.

    Raises:
        ConfigError: the model does not have such a map, block or prior.
        InputError: the classifier does not know the class.
    """
    if not isinstance(checkpoint, ClassifierCheckpoint):
        model, size = checkpoint.model, checkpoint.preprocessing.image_size
        choice = choose_maps(model.vision, maps, block, heads, MAPS)
        answers = checkpoint.vocabulary.answers if isinstance(checkpoint, VQACheckpoint) else ()
        return Viewer(
            model,
            choice,
            lambda batch: explain(model, batch, choice),
            lambda logits: predictions_of(logits, answers),
            lambda width, height: seen_box(width, height, size),
        )
    classifier, transform = checkpoint.model, checkpoint.transform
    choice, vector = choose_maps(classifier.vision, maps, block, heads, PICTURE_MAPS), None
    if prior is not None:
        if not classifier.vision.uses_prior:
            raise ConfigError(f"there is no prior: the model's encoder, {classifier.vision.variant.label}, uses none")
        (vector,) = class_priors(checkpoint, [prior]).vectors
    side, _ = classifier.vision.image_size
    return Viewer(
        classifier,
        choice,
        lambda batch: explain_pictures(classifier, batch.images, choice, vector),
        lambda logits: class_predictions(logits, checkpoint.classes),
        lambda width, height: seen_box(width, height, side, transform.resized_to),
        prior,
    )
