"""Reading the authors' files: tensors, numbers and texts, never code.

``torch.load(weights_only=True)`` builds tensors and plain containers only. Two names occur in the released files beside
those: the command line of an ImageNet run, and a class that Lightning uses as a key. Empty classes stand in for both.
"""

import hashlib
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vl_absvit.errors import InputError


class ReleasedFile(NamedTuple):
    """What a released file holds of use."""

    path: Path
    sha256: str
    form: Literal["imagenet", "lightning"]
    state: dict[str, Tensor]
    config: dict[str, Any]  # METER's configuration of the run; empty for ImageNet files


def _stand_in(module: str, name: str) -> type:
    """An empty class that pickles take for ``module.name``; it runs nothing, whatever is put into it."""
    return type(name, (), {"__module__": module})


STAND_INS = [
    _stand_in("argparse", "Namespace"),
    _stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
]


def read_released(path: str | Path) -> ReleasedFile:
    """Read a ``.pth`` of the ImageNet release or a Lightning ``.ckpt`` of the vision-language release.

    Raises:
        InputError: there is no such file, it is damaged, holds objects that the released files do not hold, or has
            another form.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    content = _load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a checkpoint of the authors, got {_form(content)}")
    if "state_dict" in content:
        state, form, config = content["state_dict"], "lightning", _lightning_config(content, path)
    else:
        state, form, config = content.get("model", content), "imagenet", {}
    return ReleasedFile(path, sha256, form, _checked(state, path), config)


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The optimizer's state, twice the size of the weights, stays on disk where the format allows it.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # bytes that mean nothing make the unpickler fail in every way there is
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            reason = f"refused, it holds {foreign[1]}, which is no part of the authors' files; nothing of it was run"
        elif isinstance(error, pickle.UnpicklingError):  # the library's own words advise to load it unsafely
            reason = "refused, it holds more than tensors, numbers and texts, or is damaged; nothing of it was run"
        else:
            reason = "not a PyTorch checkpoint, or cut short"
        raise InputError(f"{path}: {reason}") from error


def _lightning_config(content: dict, path: Path) -> dict[str, Any]:
    parameters = content.get("hyper_parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise InputError(
            f"{path}: expected METER's configuration under hyper_parameters.config, got {_form(config or parameters)}"
        )
    return config


def _checked(state: Any, path: Path) -> dict[str, Tensor]:
    """Names and tensors, no two of which share storage: safetensors refuses to write those."""
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path}: expected names and tensors, got {_form(state)}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InputError(f"{path}: expected names and tensors, got {_form(value)} under {key!r:.60}")
    return _with_own_storage(state)


def _with_own_storage(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors; ``rank_output`` of the retrieval models, for one, is a row of ``itm_score``."""
    own, taken = {}, set()
    for key, value in state.items():
        storage = value.untyped_storage()
        is_shared = storage.data_ptr() in taken or storage.nbytes() != value.nbytes or not value.is_contiguous()
        own[key] = value.clone(memory_format=torch.contiguous_format) if is_shared else value
        taken.add(own[key].untyped_storage().data_ptr())
    return own


def _form(value: object) -> str:
    if isinstance(value, dict):
        return f"entries such as {', '.join(map(repr, list(value)[:3]))}" if value else "nothing"
    return "nothing" if value is None else f"an object of type {type(value).__name__}"
