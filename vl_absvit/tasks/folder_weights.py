"""The weights of a checkpoint folder, and the model that its ``config.json`` describes."""

import math
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vl_absvit.errors import InputError, one_line
from vl_absvit.models.empty_weights import NoValues

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_LARGEST_RATIO = 2  # of numbers that are described to those that are held; buffers need not be held


def check_size(folder: Path, build: Callable[[], nn.Module]) -> None:
    """Refuse a description of a model that is far larger than its weights, before memory is allocated for it.

    A model that reads numbers out of tensors while it is built cannot be built without values, and is not checked.

    Args:
        build: makes the described model, here without values.

    Raises:
        InputError: it is too large, or the weights cannot be read.
    """
    try:
        with torch.device("meta"), NoValues():
            described = sum(tensor.numel() for tensor in build().state_dict().values())
    except RuntimeError as error:
        if "overflow" in str(error):
            raise _unfit(folder, one_line(error)) from error
        return
    try:
        with safe_open(folder / WEIGHTS, "pt") as weights:
            held = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unfit(folder, one_line(error)) from error
    if described > _LARGEST_RATIO * held:
        raise _unfit(folder, f"it holds {held:,} numbers, the model has {described:,}")


def load_weights(
    model: nn.Module, folder: Path, renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state
) -> None:
    """Put the weights of a folder into the model that it describes.

    Args:
        renamed: gives the weights the model's names.

    Raises:
        InputError: they cannot be read, or are those of another model.
    """
    try:
        model.load_state_dict(renamed(safetensors.torch.load_file(folder / WEIGHTS)))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _unfit(folder, one_line(error)) from error


def _unfit(folder: Path, reason: str) -> InputError:
    return InputError(f"{folder / WEIGHTS}: does not fit the architecture in {CONFIG} beside it: {reason:.300}")
