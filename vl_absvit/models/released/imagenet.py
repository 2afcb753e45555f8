"""The ImageNet release: AbSViT and plain ViT as classifiers.

On ImageNet the release modulates with alpha 1, its prior is a trainable query (``prompt``), and it averages the
cross-entropies of both looks. With average pooling the final norm comes after the pooling; modulation and feedback use
tokens before the norm.
"""

from collections.abc import Container, Mapping
from typing import Any

import timm
import torch
from torch import Tensor

import vl_absvit.models.trunks.registry  # noqa: F401  (registers the models)
from vl_absvit.errors import InputError
from vl_absvit.models.heads import Classifier
from vl_absvit.models.load_report import part_of
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.released import trunk
from vl_absvit.models.released.key_map import Conversion, Entry, KeyMap, Option, check_complete, explain
from vl_absvit.models.released.toast import without_transform

POOLING_THEN_NORM = "avg_then_norm"
KEYS = KeyMap(
    trunk.KEYS | {"prompt": "vision.prior", "head.*": "vision.head.*", "fc_norm.*": "vision.norm.*"}, ignored={}
)
REASONS = trunk.LAYER_SCALE | {"fc_norm.*": "the final norm, which here stands after the pooling"}
MERGED = "TOAST's matrix before the feedback: multiplied into the deepest decoder"
IMAGENET_CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_PCT = 224 / 256


def convert_imagenet(state: Mapping[str, Tensor], num_heads: int | None, location: str) -> Conversion:
    """A released classifier in our names and in the form that pretraining writes.

    Args:
        num_heads: attention heads, needed if the width is not standard.
        location: the file, for messages.

    Raises:
        InputError: it is not a whole model of the release.
        ConfigError: the number of heads is missing or impossible.
    """
    whole = state
    state, merged = without_transform(whole, location)
    ours, entries = KEYS.translate(state, location)
    part = part_of("vision.decoders.")
    entries += [Entry("loaded", name, part, whole[name].numel(), MERGED) for name in whole.keys() - state.keys()]
    shape = trunk.trunk_shape(ours, num_heads, location)
    ours, new = trunk.settle(ours, shape.depth, location)
    if "vision.head.weight" not in ours or ours["vision.head.weight"].ndim != 2:
        of_toast = " (TOAST's encoder alone?)" if merged else ""
        raise InputError(f"{location}: expected a classifier, but it has no matrix head.weight{of_toast}")
    classes = len(ours["vision.head.weight"])
    norm_follows = "fc_norm.weight" in state
    steering = {"modulation": "reweight", "gain": 1.0} if shape.has_feedback else {}
    config: dict[str, Any] = {
        "format": 1,
        "vision": shape.as_config(**steering, image_statistics="imagenet"),
        "pooling": POOLING_THEN_NORM if norm_follows else "token",
        "classes": [str(number) for number in range(classes)],
    }
    with torch.device("meta"):
        expected = _build(config).state_dict()
    check_complete(named_as_in(expected, ours), expected, location)
    return Conversion(
        kind="classifier",
        config=config,
        state=ours,
        preprocessing={
            "image_size": shape.image_size,
            "image_mean": list(MEAN),
            "image_std": list(STD),
            "crop_pct": CROP_PCT,
        },
        training=training_of(classes),
        options=[*_options(shape, config), *trunk.options_of_form(state), *merged],
        entries=explain(entries, REASONS) + new,
    )


def rebuild_classifier(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Classifier:
    """The released classifier, in evaluation mode, from a converted ``config.json`` and its weights."""
    with torch.device("meta"):
        model = _build(config)
    model.load_state_dict(named_as_in(model.state_dict(), state), assign=True)
    return model.eval()


def _build(config: Mapping[str, Any]) -> Classifier:
    vision, norm_follows = config["vision"], config["pooling"] == POOLING_THEN_NORM
    sizes = {"embed_dim": "width", "depth": "depth", "num_heads": "num_heads", "patch_size": "patch_size"}
    encoder = timm.create_model(
        vision["model"],
        img_size=vision["image_size"],
        num_classes=len(config["classes"]),
        top_down=vision["top_down"],
        trainable_prior=True,
        global_pool="avg" if norm_follows else "token",
        fc_norm=norm_follows,
        **{theirs: vision[ours] for theirs, ours in sizes.items()},
        **{name: vision[name] for name in ("modulation", "gain") if name in vision},
    )
    assert isinstance(encoder, VisualEncoder), f"{vision['model']} is registered as a visual encoder"
    return Classifier(encoder)


def named_as_in(expected: Container[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A folder's weights under a classifier's names: a ViT gives a final norm after the pooling a name of its own.

    Folders keep the usual name. A trunk that starts from them applies that norm to every token.

    Args:
        expected: names of the classifier's weights.
    """
    if "vision.fc_norm.weight" not in expected:
        return dict(state)
    return {key.replace("vision.norm.", "vision.fc_norm."): value for key, value in state.items()}


def training_of(classes: int) -> dict[str, Any]:
    """The content of ``training.json`` of a released classifier."""
    is_imagenet = classes == IMAGENET_CLASSES
    return {
        "task": "classification",
        "dataset": "imagenet" if is_imagenet else f"unknown, {classes} classes",
        "splits": ["train"],
        "selected_on": "val" if is_imagenet else None,
        "sources": {},
        "vision_weights": None,
        "text_model": None,
        "start": None,
    }


def _options(shape: trunk.TrunkShape, config: Mapping[str, Any]) -> list[Option]:
    options = [
        Option("image_size", shape.image_size, "from the position table and the patch size"),
        Option(
            "image_statistics",
            "imagenet",
            "the release normalises with ImageNet's mean and deviation, and for vision and language with CLIP's",
        ),
        Option(
            "crop_pct",
            CROP_PCT,
            "its evaluation resizes the shorter side to 256/224 of the image size before it cuts out the centre",
        ),
        Option("classes", len(config["classes"]), "the file names none; on ImageNet they are the synsets, sorted"),
    ]
    if shape.has_feedback:
        options += [
            Option("vision.modulation", "reweight", "the form of the ImageNet release"),
            Option("vision.gain", 1.0, "alpha on ImageNet; the prior is the trainable query"),
            Option("loss", "both looks", "the release averages the cross-entropies of both looks' logits"),
        ]
    if config["pooling"] == POOLING_THEN_NORM:
        options.append(
            Option(
                "pooling",
                POOLING_THEN_NORM,
                "mean patch, then the final norm: modulation and feedback see tokens without norm. A model that starts "
                "from this trunk has the same norm on every token",
            )
        )
    return options
