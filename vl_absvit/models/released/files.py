"""Read the useful parts of the authors' files: an ImageNet ``.pth`` or a Lightning ``.ckpt``."""

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.torch_files import form, load_torch_file, names_and_tensors


class ReleasedFile(NamedTuple):
    """The useful content of a released file."""

    path: Path
    sha256: str
    form: Literal["imagenet", "lightning"]
    state: dict[str, Tensor]
    config: dict[str, Any]  # METER's configuration of the run; empty for ImageNet files


def read_released(path: str | Path) -> ReleasedFile:
    """Read a ``.pth`` of the ImageNet release or a Lightning ``.ckpt`` of the vision-language release.

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
