"""The checkpoint folder of a pretrained classifier: its encoder, head, classes, and how its inputs are made."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vl_absvit.config import VisionConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.data.transforms import ImageTransform, image_transform
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import build_random_classifier, image_statistics
from vl_absvit.models.heads import Classifier
from vl_absvit.models.labels import LabelMatch, match_labels
from vl_absvit.models.released.imagenet import POOLING_THEN_NORM, named_as_in
from vl_absvit.tasks.folder_weights import CONFIG, check_size, load_weights

log = logging.getLogger(__name__)

STATISTICS = "preprocessor_config.json"
POOLINGS = {"token": ("token", False), "avg": ("avg", False), POOLING_THEN_NORM: ("avg", True)}
"""What is pooled, and whether the final norm stands after the pooling (classifiers of the authors' release)."""


class ClassifierCheckpoint(NamedTuple):
    """A pretrained encoder with the head that it was pretrained with."""

    model: Classifier
    transform: ImageTransform  # from pictures to the model's inputs
    classes: list[str]  # of the head's rows

    def described(self) -> list[tuple[str, str]]:
        """The parts beside the visual encoder, in words."""
        return [("classes", f"{len(self.classes):,}")]


def load_classifier(folder: str | Path) -> ClassifierCheckpoint:
    """Read a checkpoint folder of a pretraining run; the model is in evaluation mode.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG, dict)
    classes = _classes_in(content)
    if classes is None:
        raise InputError(
            f"{folder / CONFIG}: expected a pretrained classifier of format 1 with its vision, pooling and classes, "
            f"got {sorted(content)[:6]}"
        )
    try:
        config = VisionConfig(**content["vision"])
        pooling, norm_follows = POOLINGS[content["pooling"]]
        build = partial(build_random_classifier, config, len(classes), pooling=pooling, norm_follows=norm_follows)
        check_size(folder, build)
        model = build()
    except (ConfigError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder / CONFIG}: not the vision of a classifier: {error}") from error
    load_weights(model, folder, lambda state: named_as_in(model.state_dict(), state))
    crop_pct = _read_crop_pct(folder / STATISTICS, config)
    transform = image_transform(config.image_size, *image_statistics(config), crop_pct=crop_pct)
    return ClassifierCheckpoint(model.eval(), transform, classes)


def statistics_of(config: VisionConfig, crop_pct: float) -> dict:
    """Size, pixel statistics and crop of the encoder's input, as JSON has them."""
    mean, std = image_statistics(config)
    return {
        "image_size": config.image_size, "image_mean": list(mean), "image_std": list(std), "crop_pct": crop_pct
    }  # fmt: skip


def _read_crop_pct(path: Path, config: VisionConfig) -> float:
    """The crop that a folder's statistics say, if the rest of them is the encoder's."""
    found = read_json(path, dict)
    # Older folders, and converted ones, do not have it: they show the whole shorter side.
    expected = statistics_of(config, crop_pct := found.get("crop_pct", 1.0))
    if {"crop_pct": crop_pct} | found != expected:
        raise InputError(f"{path}: expected {expected}, as {CONFIG} beside it says, got {found}")
    if type(crop_pct) not in (int, float) or not 0 < crop_pct <= 1:
        raise InputError(f"{path}: expected crop_pct to be a number in (0, 1], got {crop_pct!r:.60}")
    return crop_pct


def match_classes(weights: str | None, classes: Sequence[str]) -> LabelMatch | None:
    """The classes of a run beside those of the pretrained classifier that ``vision.weights`` names, and a line on both.

    None where that is something else, or nobody knows its classes.
    """
    file = None if weights is None else Path(weights) / CONFIG
    if file is None or not file.is_file():
        return None
    try:
        before = _classes_in(read_json(file, dict))
    except InputError:  # other programs' configurations need not be as strict as ours
        return None
    if before is None:
        return None
    match = match_labels(before, classes)
    if not match.is_identity:
        log.info("vision.weights %s has other classes: %s", weights, match.describe("classes"))
    return match


def _classes_in(content: dict) -> list[str] | None:
    """The names of a classifier's rows in its ``config.json``, if it is one of ours."""
    classes = content.get("classes")
    is_list = isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes)
    return classes if is_list and content.get("format") == 1 and content.get("pooling") in POOLINGS else None
