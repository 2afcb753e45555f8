"""The vision-language release (METER with AbSViT): VQA, retrieval, pretraining, NLVR2 and SNLI-VE models.

The release reads texts padded to a fixed length, normalises images with CLIP's statistics (according to its
configuration), and projects the reweighted tokens on the prior (gain 5). Its ViT has an unused classifier, its RoBERTa
an unused pooler.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import RobertaConfig

from vl_absvit.errors import InputError
from vl_absvit.models.architecture import CLIP_MEAN, CLIP_STD, FORMAT, build_from_architecture
from vl_absvit.models.load_report import part_of
from vl_absvit.models.released import imagenet, trunk
from vl_absvit.models.released.history import describe_history
from vl_absvit.models.released.key_map import Conversion, Entry, HeadKind, Option, check_complete, explain
from vl_absvit.models.released.vision_language_keys import KEYS, REASONS, kind_of_head

SECOND_IMAGE_TYPE = "head.second_image_type"
TEXT_WIDTHS = (768, 1024)
GAIN = 5.0
EXPECTED: dict[str, type | tuple[type, ...]] = {  # METER's configuration, as far as it is read
    "hidden_size": int,
    "num_heads": int,
    "num_top_layer": int,
    "mlp_ratio": (int, float),
    "drop_rate": (int, float),
    "image_size": int,
    "patch_size": int,
    "max_text_len": int,
    "tokenizer": str,
    "feedback": bool,
    "val_transform_keys": list,
}
STATISTICS = {"clip": (CLIP_MEAN, CLIP_STD), "imagenet": (imagenet.MEAN, imagenet.STD)}


def convert_vision_language(
    state: Mapping[str, Tensor], config: Mapping[str, Any], num_heads: int | None, text_heads: int | None, location: str
) -> Conversion:
    """A released vision-language model in our names, with an architecture that gives the same results.

    Args:
        state: the release's ``state_dict``.
        config: METER's configuration of the run (``hyper_parameters``).
        num_heads: attention heads of the visual encoder, needed if its width is not standard.
        text_heads: the same for the text encoder.
        location: the file, for messages.

    Raises:
        InputError: it is not a whole model of the release, or contradicts its configuration.
        ConfigError: a number of heads is missing or impossible.
    """
    _check_config(config, location)
    kind = kind_of_head(state, location)
    ours, entries = KEYS[kind].translate(state, location)
    shape = trunk.trunk_shape(ours, num_heads, location)
    ours, new = trunk.settle(ours, shape.depth, location)
    if kind == "nlvr2":
        types = ours.get("fusion.token_types.weight", torch.empty(0))
        if types.ndim != 2 or len(types) != 3:
            raise InputError(f"{location}: expected token types of text and two images, got {tuple(types.shape)}")
        ours["fusion.token_types.weight"], ours[SECOND_IMAGE_TYPE] = types[:2].clone(), types[2].clone()
        entries = explain(entries, {"token_type_embeddings.weight": "its third row, of second images, is in the head"})
    architecture = _architecture(ours, config, kind, shape, text_heads, location)
    if architecture["sentence"] is not None and not shape.has_feedback:
        ours, made = _with_new_prior(ours, architecture)
        new = new + made
    try:
        with torch.device("meta"):
            expected = build_from_architecture(architecture, location).state_dict()
    except (ValueError, RuntimeError, AssertionError) as error:  # raised by the libraries for impossible sizes
        raise InputError(f"{location}: its sizes do not fit together: {error}") from error
    check_complete(ours, expected, location)
    _check_sizes(architecture, config, location)
    mean, std = STATISTICS[architecture["vision"]["image_statistics"]]
    preprocessing = {
        "image_size": shape.image_size,
        "image_mean": list(mean),
        "image_std": list(std),
        "max_tokens": config["max_text_len"],
    }
    return Conversion(
        kind=kind,
        config=architecture,
        state=ours,
        preprocessing=preprocessing,
        training=describe_history(config, _task(kind)),
        options=[*_options(architecture, preprocessing, kind), *trunk.options_of_form(state)],
        entries=explain(entries, REASONS) + new,
    )


def _check_config(config: Mapping[str, Any], location: str) -> None:
    for name, form in EXPECTED.items():
        value = config.get(name)
        if not isinstance(value, form) or (form is int and not (type(value) is int and value >= 1)):
            raise InputError(
                f"{location}: expected the configuration of the AbSViT release, but its {name} is {value!r:.60}"
            )
    for name, encoder in (("is_clip", "CLIP's"), ("is_swin", "a Swin transformer")):
        if config.get(name):
            raise InputError(f"{location}: its visual encoder is {encoder}; only the ViT and AbSViT of the release fit")
    if "roberta" not in config["tokenizer"]:
        raise InputError(f"{location}: its text encoder is {config['tokenizer']!r:.60}; only RoBERTa fits")
    transform = config["val_transform_keys"]
    if transform not in [[name] for name in STATISTICS]:
        raise InputError(f"{location}: expected the image transform {' or '.join(STATISTICS)}, got {transform!r:.60}")


def _architecture(
    ours: Mapping[str, Tensor],
    config: Mapping[str, Any],
    kind: HeadKind,
    shape: trunk.TrunkShape,
    text_heads: int | None,
    location: str,
) -> dict[str, Any]:
    needed = (
        "text.roberta.embeddings.word_embeddings.weight",
        "text.roberta.embeddings.position_embeddings.weight",
        "text.roberta.encoder.layer.0.intermediate.dense.weight",
        "fusion.text_transform.weight",
    )
    for key in needed:
        if key not in ours or ours[key].ndim != 2:
            raise InputError(f"{location}: not all of a released model: it has no matrix {KEYS[kind].released(key)}")
    words, positions, expand, transform = (ours[key] for key in needed)
    text_width = words.shape[1]
    text = RobertaConfig(
        vocab_size=len(words),
        hidden_size=text_width,
        num_hidden_layers=trunk.count_layers(ours, "text.roberta.encoder.layer.", location),
        num_attention_heads=trunk.count_heads(text_width, text_heads, TEXT_WIDTHS, "the text encoder", "--text-heads"),
        intermediate_size=len(expand),
        max_position_embeddings=len(positions),
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    steering = {"modulation": "reweight_project", "gain": GAIN} if shape.has_feedback else {}
    head: dict[str, Any] = {"kind": kind}
    if kind == "vqa":
        head["num_answers"] = _rows(ours, "head.3.weight", location)
    elif kind == "pretraining":
        head["vocab_size"] = _rows(ours, "head.mlm.decoder.weight", location)
    return {
        "format": FORMAT,
        "vision": shape.as_config(**steering, image_statistics=config["val_transform_keys"][0]),
        "text": text.to_dict(),
        "sentence": _sentence(kind, shape.has_feedback),
        "padded_length": config["max_text_len"] if _sentence(kind, shape.has_feedback) == "padded_mean" else None,
        "pool": "cls",
        "fusion": {
            "width": len(transform),
            "num_layers": trunk.count_layers(ours, "fusion.text_layers.", location),
            "num_heads": config["num_heads"],
            "mlp_ratio": float(config["mlp_ratio"]),
            "dropout": float(config["drop_rate"]),
        },
        "head": head,
    }


def _rows(ours: Mapping[str, Tensor], key: str, location: str) -> int:
    if key not in ours or ours[key].ndim != 2:
        raise InputError(f"{location}: not all of a released model: its head has no last layer")
    return len(ours[key])


def _sentence(kind: str, has_feedback: bool) -> str | None:
    if kind == "vqa":
        return "padded_mean" if has_feedback else None
    # Retrieval models of this project always have a prior, for the dual encoder.
    return "eos" if has_feedback or kind == "matching" else None


def _with_new_prior(ours: dict[str, Tensor], architecture: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[Entry]]:
    """Add an untrained prior projection, which is the same in every conversion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        project = nn.Linear(architecture["text"]["hidden_size"], architecture["vision"]["width"])
    why = "the bottom-up baseline has no prior; random, so the dual encoder means nothing before it is trained"
    made = {f"prior.project.{name}": value.detach() for name, value in project.named_parameters()}
    return ours | made, [Entry("new", key, part_of(key), value.numel(), why) for key, value in made.items()]


def _check_sizes(architecture: Mapping[str, Any], config: Mapping[str, Any], location: str) -> None:
    """Refuse sizes that differ between weights and configuration."""
    vision, fusion = architecture["vision"], architecture["fusion"]
    of_weights = {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "hidden_size": fusion["width"],
        "num_top_layer": fusion["num_layers"],
        "feedback": vision["top_down"] == "absvit",
    }
    for name, value in of_weights.items():
        if config[name] != value:
            raise InputError(
                f"{location}: METER's configuration says {name} = {config[name]!r}, its weights say {value!r}"
            )
    longest = architecture["text"]["max_position_embeddings"] - 2
    if config["max_text_len"] > longest:
        raise InputError(
            f"{location}: texts of {config['max_text_len']} tokens, but the text encoder has {longest} positions"
        )


def _task(kind: str) -> str:
    return {"matching": "retrieval", "pretraining": "mlm and itm pretraining"}.get(kind, kind)


def _options(architecture: Mapping[str, Any], preprocessing: Mapping[str, Any], kind: str) -> list[Option]:
    options = [
        Option("image_size", preprocessing["image_size"], "from the position table; METER's configuration agrees"),
        Option(
            "image_statistics",
            architecture["vision"]["image_statistics"],
            "the image transform in METER's configuration, whatever the ViT was pretrained with",
        ),
        Option("max_tokens", preprocessing["max_tokens"], "the release's text length, from METER's configuration"),
        Option("fusion.num_heads", architecture["fusion"]["num_heads"], "from METER's configuration"),
    ]
    if "gain" in architecture["vision"]:
        options += [
            Option(
                "vision.modulation", "reweight_project", "the released form: reweighted tokens projected on the prior"
            ),
            Option("vision.gain", GAIN, "the factor of the released form"),
        ]
    if architecture["sentence"] == "padded_mean":
        options.append(
            Option(
                "sentence",
                "padded_mean",
                f"the release averages over all {preprocessing['max_tokens']} positions, padding included: the model "
                "pads every text to that length itself (padded_length)",
            )
        )
    elif architecture["sentence"] == "eos":
        options.append(Option("sentence", "eos", "the release takes the first </s> token"))
    if kind == "matching":
        options.append(
            Option(
                "shortlist",
                "all",
                "the release trains no prior loss, so that its dual encoder is no ranking: evaluate with --look second "
                "--shortlist all",
            )
        )
    return options
