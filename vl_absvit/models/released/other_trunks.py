"""The releases of RVT, VARS, FAN and GFNet: classifiers that look once, on the trunks of these names."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.models.architecture import classifier_from
from vl_absvit.models.attention import ReconstructingAttention
from vl_absvit.models.load_report import part_of
from vl_absvit.models.released.imagenet import CROP_PCT, MEAN, POOLING_THEN_NORM, STD, training_of
from vl_absvit.models.released.key_map import Conversion, Entry, Option, check_complete
from vl_absvit.models.trunks.registry import MODELS
from vl_absvit.models.trunks.vars_forms import UNDECIDABLE

IMAGE_SIZE = 224


class Family(NamedTuple):
    """What its weights do not tell of a release."""

    pooling: str  # as ``config.json`` of a folder has it
    crop_pct: float  # of its evaluation


FAMILIES = {
    "rvt": Family(POOLING_THEN_NORM, CROP_PCT),
    "fan": Family("token", 1.0),
    "gfnet": Family("avg", CROP_PCT),
}
_NAME = re.compile(r"absvit_(rvt|fan|gfnet)(?:_plus|_performer)?_[a-z]+")
WHY = {
    "model": "as asked for; the file has its shapes",
    "image_size": "as asked for, or the releases' 224; filters, static dictionaries and scales by place fit one size",
    "image_statistics": "the releases normalise with ImageNet's mean and deviation",
    "attention": "as asked for; the file has its shapes",
    "vars_generation": "ista where the file has no learned matrices; else as asked for: linked and head look alike",
}
NOT_TOLD = "as asked for, or the release's default; the file does not tell"


def convert_trunk(state: Mapping[str, Tensor], vision: Mapping[str, Any], location: str) -> Conversion:
    """A released classifier in our names and in the form that pretraining writes.

    Args:
        vision: fields of ``VisionConfig``, ``model`` among them.
        location: the file, for messages.

    Raises:
        InputError: it is not a whole model of this name, or does not tell what has to be named.
        ConfigError: no release has such a trunk.
    """
    family, head = _family_of(vision["model"]), state.get("head.weight")
    if head is None or head.ndim != 2:
        raise InputError(f"{location}: expected a classifier, but it has no matrix head.weight")
    vision = {"image_size": IMAGE_SIZE, **_with_generation(vision, state, location)}
    vision |= {"top_down": "none", "image_statistics": "imagenet"}
    norm_follows = family.pooling == POOLING_THEN_NORM
    with torch.device("meta"):
        model = classifier_from(
            vision, len(head), pooling="avg" if norm_follows else family.pooling, norm_follows=norm_follows
        )
    try:
        found = model.vision.read_foreign(state)
    except InputError as error:
        raise InputError(f"{location}: {error}") from error
    ours, expected = {f"vision.{name}": value for name, value in found.state.items()}, model.state_dict()
    check_complete(ours, expected, location)
    if wrong := [
        name for name, value in ours.items() if value.dtype.is_floating_point != expected[name].dtype.is_floating_point
    ]:
        kinds = [table[wrong[0]].dtype for table in (expected, ours)]
        raise InputError(f"{location}: expected numbers such as {kinds[0]} for {wrong[0]}, got {kinds[1]}")
    statistics = {"image_size": vision["image_size"], "image_mean": list(MEAN), "image_std": list(STD)}
    dropped = {weight.name: weight.reason for weight in found.dropped}
    return Conversion(
        kind="classifier",
        config={
            "format": 1,
            "vision": dict(vision),
            "pooling": family.pooling,
            "classes": [str(number) for number in range(len(head))],
        },
        state={name: value.contiguous() for name, value in ours.items()},
        preprocessing=statistics | {"crop_pct": family.crop_pct},
        training=training_of(len(head)),
        options=[
            *(Option(f"vision.{name}", vision[name], why) for name, why in WHY.items() if name in vision),
            *_options_of_vars(model.vision),
            Option("crop_pct", family.crop_pct, "as the release's evaluation cuts pictures"),
            Option("pooling", family.pooling, "as the release's classifier"),
            Option("classes", len(head), "the file names none; on ImageNet they are the synsets, sorted"),
        ],
        entries=[
            Entry("ignored", name, "-", value.numel(), dropped[name])
            if name in dropped
            else Entry("loaded", name, part_of(f"vision.{name}"), value.numel(), "")
            for name, value in state.items()
        ],
    )


def _with_generation(vision: Mapping[str, Any], state: Mapping[str, Tensor], location: str) -> Mapping[str, Any]:
    """The fields with the generation of VARS-D and -SD, which a file tells where it has no learned matrices.

    Raises ``InputError`` where none is given and it does not tell.
    """
    if vision.get("attention") not in ("vars_d", "vars_sd") or "vars_generation" in vision:
        return vision
    if any(name.endswith(".attn.learned_k") for name in state):
        raise InputError(f"{location}: {UNDECIDABLE}")
    return {**vision, "vars_generation": "ista"}


def _options_of_vars(trunk: nn.Module) -> list[Option]:
    """What layers of VARS compute with, beside their weights."""
    layer = next((each for each in trunk.modules() if isinstance(each, ReconstructingAttention)), None)
    if layer is None:
        return []
    found = {"vars_steps": (layer.steps, f"{NOT_TOLD}. The paper has 3"), "vars_penalty": (layer.lam, NOT_TOLD)}
    return [Option(f"vision.{name}", *value) for name, value in found.items()]


def _family_of(model: str) -> Family:
    known = {name: match for name in MODELS if (match := _NAME.fullmatch(name)) and "_star_" not in name}
    if model not in known:
        raise ConfigError(
            f"--model: expected one of {', '.join(known)}, of which there are releases, got {model!r:.60}"
        )
    return FAMILIES[known[model][1]]
