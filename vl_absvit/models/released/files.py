"""Read the useful parts of released files: ``.pth`` of ImageNet, mmsegmentation or another trunk, or a ``.ckpt``."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.released.segmentation import is_segmenter, said_of_classes
from vl_absvit.models.torch_files import form, load_torch_file, names_and_tensors
from vl_absvit.models.weight_files import unwrapped

OTHER_TRUNKS = ("transformers.0.blocks.", "pos_embed.token_projection.", "blocks.0.filter.")
"""Beginnings of names that only RVT and VARS, FAN, or GFNet have."""


class ReleasedFile(NamedTuple):
    """The useful content of a released file."""

    path: Path
    sha256: str
    form: Literal["imagenet", "mmsegmentation", "lightning", "trunk"]
    state: dict[str, Tensor]
    config: dict[str, Any]  # METER's configuration of the run; what mmsegmentation says of classes; else empty


def read_released(path: str | Path) -> ReleasedFile:
    """Read a ``.pth`` of an ImageNet or segmentation release, or a Lightning ``.ckpt`` of the vision-language release.

    Raises:
        InputError: there is no such file, it is damaged, holds unknown objects, or has another form.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    content = load_torch_file(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a checkpoint of the authors, got {form(content)}")
    weights, _ = unwrapped(content)
    if isinstance(weights, Mapping) and any(str(name).startswith(OTHER_TRUNKS) for name in weights):
        return ReleasedFile(path, sha256, "trunk", names_and_tensors(weights, path), {})
    if is_segmenter(weights):
        said = said_of_classes(content.get("meta"))
        return ReleasedFile(path, sha256, "mmsegmentation", names_and_tensors(weights, path), said)
    if "state_dict" in content:
        state, config = content["state_dict"], _lightning_config(content, path)
        return ReleasedFile(path, sha256, "lightning", names_and_tensors(state, path), config)
    return ReleasedFile(path, sha256, "imagenet", names_and_tensors(content.get("model", content), path), {})


def _lightning_config(content: dict, path: Path) -> dict[str, Any]:
    parameters = content.get("hyper_parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise InputError(
            f"{path}: expected METER's configuration under hyper_parameters.config, got {form(config or parameters)}"
        )
    return config
