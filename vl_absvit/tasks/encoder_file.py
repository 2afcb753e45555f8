"""The visual encoder of a checkpoint alone, as a file that timm opens."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor

from vl_absvit.config import VisionConfig
from vl_absvit.data.files import write_whole
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import ConfigError
from vl_absvit.models.architecture import attention_arguments, image_statistics, named_sizes
from vl_absvit.models.trunks.registry import trunk_named
from vl_absvit.tasks.classifier_checkpoint import POOLINGS, ClassifierCheckpoint
from vl_absvit.tasks.registry import open_checkpoint
from vl_absvit.tasks.vl_checkpoint import priors_of

METADATA = "timm"  # entry of the file's metadata


class Encoder(NamedTuple):
    """Everything that ``timm.create_model`` needs to make the encoder of a checkpoint."""

    name: str  # registered with timm
    arguments: dict[str, Any]  # of ``timm.create_model``
    state: dict[str, Tensor]
    mean: tuple[float, ...]  # of pixels, per channel, in [0, 1]
    std: tuple[float, ...]
    needs_prior: bool  # whether a prior has to be given with every image

    def call(self, file: Path) -> str:
        """The call that opens the file."""
        arguments = {"checkpoint_path": str(file)} | self.arguments
        return f"timm.create_model({self.name!r}, {', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def encoder_of(folder: Path, prior: str | None = None) -> Encoder:
    """The encoder of a VQA, retrieval or pretraining checkpoint; a classifier keeps its head and trained query.

    Args:
        folder: of the checkpoint.
        prior: a text whose prior becomes the encoder's own, the same for every image.

    Raises:
        InputError: the folder is not whole, or the text too long.
        ConfigError: the encoder has a prior of its own, or uses none.
    """
    checkpoint = open_checkpoint(folder)
    content, vision = read_json(folder / "config.json", dict), checkpoint.model.vision
    config, state = VisionConfig(**content["vision"]), vision.state_dict()
    arguments: dict[str, Any] = {"img_size": config.image_size, "num_classes": 0}
    if isinstance(checkpoint, ClassifierCheckpoint):
        arguments["num_classes"] = len(checkpoint.classes)
        pooling, norm_follows = POOLINGS[content["pooling"]]
        arguments |= {} if pooling == "token" else {"global_pool": pooling, "fc_norm": norm_follows}
    elif "global_pool" in (options := trunk_named(config.model).options):
        arguments["global_pool"] = options["global_pool"]
    arguments |= named_sizes(config) | attention_arguments(config)
    if prior is not None:
        if not vision.uses_prior or vision.prior is not None:
            why = "has a trained query as its prior" if vision.uses_prior else "uses no prior"
            raise ConfigError(f"--prior {prior!r:.60}: the encoder of {folder}, {vision.variant.label}, {why}")
        state["prior"] = priors_of(checkpoint, [prior])[0]
    trunk = trunk_named(config.model)
    if config.top_down == "none" and config.attention is None:  # timm's own ViT has no other attention
        name = trunk.plain
    else:
        name, of_entry = trunk.call(config.model)
        arguments |= of_entry
        arguments |= {"top_down": config.top_down, "modulation": config.modulation, "gain": config.gain}
        arguments |= {} if config.mask == "cosine" else {"mask": config.mask}
        arguments |= {"centred": True} if config.centred else {}
        arguments |= {"looks_again_from": config.looks_again_from} if config.looks_again_from else {}
    needs_prior = vision.uses_prior and "prior" not in state
    arguments |= {"trainable_prior": False} if needs_prior else {}
    state = {key: value.detach().contiguous().clone() for key, value in state.items()}
    return Encoder(name, arguments, state, *image_statistics(config), needs_prior)


def write_encoder(encoder: Encoder, file: Path) -> None:
    """Write the weights, and in the file's metadata what else is needed to open it."""
    needed = {"model": encoder.name, "arguments": encoder.arguments, "mean": encoder.mean, "std": encoder.std}
    metadata = {"format": "pt", METADATA: json.dumps(needed)}
    write_whole(file, lambda stream: stream.write(save(encoder.state, metadata)))
