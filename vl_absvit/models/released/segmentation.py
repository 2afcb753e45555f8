"""The segmentation release: AbSViT and plain ViT with UPerNet, as mmsegmentation before 1.0 saves them.

The backbone is the ImageNet release's, at the size of the training crops. It has no neck. Its maps are outputs of four
evenly spaced blocks, the final norm stands on the last one, and the auxiliary head reads that one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.architecture import build_described_segmenter
from vl_absvit.models.load_report import part_of
from vl_absvit.models.released import trunk
from vl_absvit.models.released.key_map import Conversion, Entry, KeyMap, Option, check_complete, explain

HEAD, AUXILIARY = "decode_head", "auxiliary_head"
COUNTERS = "num_batches_tracked"
_CONVOLUTIONS = {
    HEAD: ("psp_modules.{n}.1", "bottleneck", "lateral_convs.{n}", "fpn_convs.{n}", "fpn_bottleneck"),
    AUXILIARY: ("convs.{n}",),
}
"""Convolutions with a batch norm, in each head."""
_OURS = {HEAD: "head", AUXILIARY: "auxiliary_head"}


def _head_keys(theirs: str) -> dict[str, str]:
    ours = _OURS[theirs]
    keys = {f"{theirs}.conv_seg.*": f"{ours}.classifier.1.*"}
    for name in _CONVOLUTIONS[theirs]:
        keys[f"{theirs}.{name}.conv.weight"] = f"{ours}.{name}.conv.weight"
        keys[f"{theirs}.{name}.bn.*"] = f"{ours}.{name}.batch_norm.*"
    return keys


KEYS = KeyMap(
    {f"backbone.{theirs}": ours for theirs, ours in trunk.KEYS.items()}
    | {"backbone.prompt": "vision.prior"}
    | _head_keys(HEAD)
    | _head_keys(AUXILIARY),
    ignored={f"{head}.*.{COUNTERS}": "a count of passes, which norms of a fixed momentum do not use" for head in _OURS},
)
REASONS = {f"backbone.{key}": why for key, why in trunk.LAYER_SCALE.items()}
NO_COUNT = "a count of passes, which begins anew"


class Recipe(NamedTuple):
    """What the release's recipe of a data set says about pictures; sides in pixels, height before width."""

    dataset: str  # our name
    longest: int
    shortest: int
    crop: tuple[int, int]


IMAGE_SIZE = 512
RECIPES = {
    21: Recipe("voc", 2048, 512, (512, 512)),
    19: Recipe("cityscapes", 2048, 1024, (512, 1024)),
    150: Recipe("ade20k", 2048, 512, (512, 512)),
}
"""By the number of classes, which tells the release's data sets apart; all are at ``IMAGE_SIZE``."""


def is_segmenter(state: Any) -> bool:
    """Whether names are those of a model of mmsegmentation."""
    return isinstance(state, Mapping) and any(isinstance(key, str) and key.startswith(f"{HEAD}.") for key in state)


def said_of_classes(meta: Any) -> dict[str, Any]:
    """Names and colours of the classes out of a file's ``meta``, as far as it has them."""
    said = meta if isinstance(meta, Mapping) else {}
    names, colours = said.get("CLASSES"), said.get("PALETTE")
    found: dict[str, Any] = {}
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        found["classes"] = [name.strip() for name in names]
    if isinstance(colours, list | tuple) and all(map(_is_colour, colours)):
        found["colours"] = [list(map(int, colour)) for colour in colours]
    return found


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(one, int) for one in value)


def convert_segmenter(
    state: Mapping[str, Tensor], said: Mapping[str, Any], num_heads: int | None, location: str
) -> Conversion:
    """A released segmenter in our names and in the form that finetuning writes.

    Args:
        said: names and colours of the classes, as far as the file has them, see ``said_of_classes``; without names they
            are numbered, without colours there are none.
        num_heads: attention heads, needed if the width is not standard.
        location: the file, for messages.

    Raises:
        InputError: it is not a whole model of the release.
        ConfigError: the number of heads is missing or impossible.
    """
    ours, entries = KEYS.translate(state, location)
    shape = trunk.trunk_shape(ours, num_heads, location)
    ours, new = trunk.settle(ours, shape.depth, location)
    number, channels = _sides(ours, "head.classifier.1.weight", location)
    has_auxiliary = any(key.startswith("auxiliary_head.") for key in ours)
    auxiliary = _sides(ours, "auxiliary_head.classifier.1.weight", location)[1] if has_auxiliary else channels
    recipe = RECIPES.get(number) if shape.image_size == IMAGE_SIZE else None
    side = shape.image_size
    longest, shortest, crop = (4 * side, side, (side, side)) if recipe is None else recipe[1:]
    steering = {"modulation": "reweight", "gain": 1.0} if shape.has_feedback else {}
    config: dict[str, Any] = {
        "format": 1,
        "vision": shape.as_config(**steering, image_statistics="imagenet"),
        "segmenter": {
            "head": {
                "neck": "none",
                "channels": channels,
                "auxiliary_channels": auxiliary,
                "dropout": 0.1,
                "positions": "release",
            },
            "has_auxiliary": has_auxiliary,
            "pictures": {"longest": longest, "shortest": shortest, "crop": list(crop), "border": "stretched"},
            "classes": said.get("classes", [str(one) for one in range(number)]),
            "colours": said.get("colours", []),
        },
    }
    for name in said:
        if (given := len(said[name])) != number:
            raise InputError(f"{location}: the heads have {number} classes, the file's meta has {given} {name}")
    with torch.device("meta"):
        expected = build_described_segmenter(config["vision"], config["segmenter"]).state_dict()
    for name in expected.keys() - ours.keys():
        if name.endswith(f".{COUNTERS}"):
            ours[name] = torch.zeros((), dtype=torch.long)
            new.append(Entry("new", name, part_of(name), 1, NO_COUNT))
    check_complete(ours, expected, location)
    return Conversion(
        kind="segmenter",
        config=config,
        state=ours,
        preprocessing={},
        training=_training(number, recipe),
        options=_options(shape, config["segmenter"], recipe, state),
        entries=explain(entries, REASONS) + new,
    )


def _sides(state: Mapping[str, Tensor], name: str, location: str) -> tuple[int, int]:
    """Classes and channels of a head, by its last layer."""
    if name not in state or state[name].ndim != 4:
        raise InputError(f"{location}: not all of a released model: expected a 1 x 1 convolution {KEYS.released(name)}")
    return state[name].shape[0], state[name].shape[1]


def _training(classes: int, recipe: Recipe | None) -> dict[str, Any]:
    return {
        "task": "segmentation",
        "dataset": f"unknown, {classes} classes" if recipe is None else recipe.dataset,
        "splits": ["train"],
        "selected_on": None,
        "sources": {},
        "vision_weights": None,
        "start": None,
    }


def _options(
    shape: trunk.TrunkShape, segmenter: Mapping[str, Any], recipe: Recipe | None, state: Mapping[str, Tensor]
) -> list[Option]:
    pictures = segmenter["pictures"]
    by = "the proportions of its recipes" if recipe is None else f"the release's recipe of {recipe.dataset}"
    options = [
        Option("image_size", shape.image_size, "from the position table and the patch size"),
        Option("image_statistics", "imagenet", "the release normalises with ImageNet's mean and deviation"),
        Option("pictures", {name: pictures[name] for name in ("longest", "shortest", "crop")}, f"{by}, by the classes"),
        Option("pictures.border", "stretched", "the release squeezes logits of filled-up patches into the picture"),
        Option("head.positions", "release", "its table of positions is resampled without antialiasing"),
        Option("head.maps", "evenly spaced", "the weights do not tell; the release takes blocks 2, 5, 8, 11 of twelve"),
    ]
    if shape.has_feedback:
        options += [
            Option("vision.modulation", "reweight", "the form of the ImageNet release"),
            Option("vision.gain", 1.0, "alpha; the prior is the trainable query"),
        ]
    return options + trunk.options_of_form({key.removeprefix("backbone."): value for key, value in state.items()})
