"""A trunk with fitted feedback decoders and mean token, in a folder that ``vision.weights`` reads."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor, nn

from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data.image_loader import ImageLoader
from vl_absvit.data.json_files import write_json
from vl_absvit.data.records import CAPTIONS, ImageTable, read_captions, read_manifest, read_questions
from vl_absvit.data.transforms import image_transform
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.hub import find
from vl_absvit.models.architecture import build_vision, image_statistics
from vl_absvit.models.load_report import load_table
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.start_weights import Fittable, fit_new, load_trunk
from vl_absvit.tasks.first_look_fit import IMAGES, fit_part
from vl_absvit.variants import VARIANTS

log = logging.getLogger(__name__)


def fit_trunk(config: VisionLanguageConfig) -> VisualEncoder:
    """The trunk that a finetuning would start from, with decoders and mean token fitted to its training images.

    Raises:
        ConfigError: the config names no weights, or a trunk that feeds nothing back.
        InputError: the weights do not fit or hold decoders already, or the data is not there.
    """
    vision, variant = config.vision, VARIANTS[config.vision.top_down]
    if not variant.feeds_back:
        raise ConfigError(f"vision.top_down {vision.top_down} feeds nothing back: it has no decoders")
    if vision.weights is None:
        raise ConfigError("vision.weights is needed: decoders are fitted to what a trained trunk sees")
    weights = "timm" if vision.weights == "timm" else str(find(vision.weights, "vision.weights").path)
    trunk = build_vision(vision, num_classes=0)
    entries = load_trunk(trunk, weights, vision.model)
    parts: tuple[Fittable, ...] = ("decoders", "mean_token")
    fitted = fit_new(trunk, entries, parts, lambda trunk, part: fit_part(trunk, part, training_images(config)))
    if not fitted:
        raise InputError(f"vision.weights {vision.weights}: holds decoders already, there is nothing to fit")
    log.info(load_table(nn.ModuleDict({"vision": trunk}), entries + fitted))
    return trunk


def training_images(config: VisionLanguageConfig) -> Iterator[Tensor]:
    """At most ``IMAGES`` of the training splits' images, (3, H, W) each, as a run of this config chooses them."""
    data, table = config.data, ImageTable(config.data.root, config.data.images)
    image_ids = np.concatenate([images_of_split(data.root, split, table) for split in data.train_splits])
    transform = image_transform(config.vision.image_size, *image_statistics(config.vision))
    return ImageLoader(table, transform, len(image_ids)).sample(image_ids, IMAGES, config.run.seed, transform)


def images_of_split(root: str | Path, split: str, images: ImageTable) -> np.ndarray:
    """Ids of the images of a prepared split that can be opened, ascending.

    Raises:
        InputError: there is no such split, or no image in it.
    """
    read = read_captions if read_manifest(root).get("kind") == CAPTIONS else read_questions
    found = np.intersect1d(read(root, [split]).data.column("image_id").to_numpy(), images.available)
    if not len(found):
        raise InputError(f"{root}: there is no image in {split}")
    return found


def write_trunk(trunk: VisualEncoder, config: VisionLanguageConfig, folder: Path) -> None:
    """Write weights and ``config.json`` into an existing empty folder."""
    vision = asdict(replace(config.vision, weights=None, gradient_checkpointing=False))
    del vision["decoders"]  # of how training starts
    write_json(folder / "config.json", {"format": 1, "vision": vision}, indent=1)
    state = {name: value.detach().contiguous() for name, value in trunk.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
