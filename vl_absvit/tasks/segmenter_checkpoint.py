"""The checkpoint folder of a segmenter: its encoder, heads and classes, and how pictures are shown to it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vl_absvit.config import PicturesConfig, SegmentationConfig, VisionConfig
from vl_absvit.data.json_files import read_json
from vl_absvit.data.pixel_transforms import EvaluationPixels
from vl_absvit.data.segmentation_labels import VOID, Colour
from vl_absvit.data.transforms import Normalise
from vl_absvit.errors import ConfigError, InputError, one_line
from vl_absvit.models.architecture import build_described_segmenter, image_statistics
from vl_absvit.models.labels import LabelMatch, match_labels
from vl_absvit.models.segmenter import Segmenter
from vl_absvit.tasks.folder_weights import CONFIG, check_size, load_weights
from vl_absvit.tasks.vl_checkpoint import EXPECTED, TRAINING

log = logging.getLogger(__name__)

KEY = "segmenter"


class SegmenterCheckpoint(NamedTuple):
    """A segmenter, and what it needs beside its weights."""

    model: Segmenter
    classes: list[str]  # of the head's rows
    colours: list[Colour]
    vision: VisionConfig
    pictures: PicturesConfig
    transform: EvaluationPixels
    training: dict[str, Any]  # what it was trained on

    def described(self) -> list[tuple[str, str]]:
        """The parts beside the visual encoder, in words."""
        head, pictures = self.model.head, self.pictures
        shown = "whole" if pictures.window is None else "in windows of {} x {} pixels".format(*pictures.window)
        return [
            ("head", f"UPerNet, {head.channels} channels, on blocks {', '.join(map(str, self.model.maps))}"),
            ("classes", f"{len(self.classes):,}"),
            ("pictures", f"within {pictures.longest} x {pictures.shortest} pixels, seen {shown}"),
        ]


def content_of_checkpoint(config: SegmentationConfig, classes: list[str], colours: list[Colour]) -> dict[str, Any]:
    """The content of a checkpoint's ``config.json``."""
    vision = asdict(replace(config.vision, weights=None, gradient_checkpointing=False))
    del vision["decoders"]  # of how training starts
    segmenter = {
        "head": asdict(config.head),
        "has_auxiliary": config.loss.auxiliary > 0,
        "pictures": asdict(replace(config.pictures, crop=config.crop)),
        "classes": classes,
        "colours": colours,
    }
    return {"format": 1, "vision": vision, KEY: segmenter}


def classes_in(content: Mapping[str, Any]) -> list[str] | None:
    """The names of a segmenter's classes in its ``config.json``, if it is one of ours."""
    inside = content.get(KEY)
    classes = inside.get("classes") if isinstance(inside, dict) and content.get("format") == 1 else None
    is_list = isinstance(classes, list) and 0 < len(classes) <= VOID and all(isinstance(name, str) for name in classes)
    return classes if is_list else None


def matched_classes(folder: str, classes: Sequence[str]) -> LabelMatch:
    """How classes match those of the segmenter to start from, by their names. Differences are logged.

    Raises:
        InputError: the folder holds no segmenter.
    """
    option = f"from_checkpoint {folder}"
    if not (Path(folder) / CONFIG).is_file():
        raise InputError(f"{option}: there is no {CONFIG}; {EXPECTED}")
    content = read_json(Path(folder) / CONFIG, dict)
    before = classes_in(content)
    if before is None:
        kind = "an image classifier" if "classes" in content else "something else"
        raise InputError(f"{option}: expected a segmenter, got {kind}; vision.weights takes the trunk of any model")
    match = match_labels(before, classes)
    if not match.is_identity:
        log.info("%s has other classes: %s", option, match.describe("classes"))
    return match


def training_of(folder: str | Path) -> dict[str, Any]:
    """What a checkpoint was trained on, as ``training.json`` says it; nothing where it does not."""
    path = Path(folder) / TRAINING
    return read_json(path, dict) if path.is_file() else {}


def load_segmenter(folder: str | Path) -> SegmenterCheckpoint:
    """Read a checkpoint folder of a segmentation run; the model is in evaluation mode.

    Raises ``InputError`` where a part is missing, the weights do not fit, or the folder holds something else.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG, dict)
    classes = classes_in(content)
    if classes is None:
        raise InputError(
            f"{folder / CONFIG}: expected a segmenter of format 1 with its vision, head and classes, got "
            f"{sorted(content)[:6]}"
        )
    try:
        inside = content[KEY]
        config = VisionConfig(**content["vision"])
        pictures = PicturesConfig(**{name: _pair(value) for name, value in inside["pictures"].items()})
        colours = [(int(red), int(green), int(blue)) for red, green, blue in inside["colours"]]
        if len(colours) != len(classes):
            raise ValueError(f"expected {len(classes)} colours, got {len(colours)}")
        build = partial(build_described_segmenter, content["vision"], inside)
        check_size(folder, build)
        model = build()
    except (ConfigError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG}: not a segmenter: {one_line(error)}") from error
    load_weights(model, folder)
    return SegmenterCheckpoint(
        model.eval(), classes, colours, config, pictures, evaluation_pixels(config, pictures), training_of(folder)
    )


def evaluation_pixels(vision: VisionConfig, pictures: PicturesConfig) -> EvaluationPixels:
    """From pictures to the model's inputs in evaluation."""
    return EvaluationPixels(pictures.longest, pictures.shortest, Normalise(*image_statistics(vision)))


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
