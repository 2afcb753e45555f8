"""Read named tensors from a file or a folder of weights of any program. Only tensors are unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.torch_files import ForeignObjects, form, load_torch_file, names_and_tensors

IN_FOLDERS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
TORCH_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of files of ``torch.save``, whatever their names. A file named ``.safetensors`` has to be one."""
ENTRIES = (
    "model", "state_dict", "model_state_dict", "model_state", "teacher", "student", "module", "model_ema",
    "state_dict_ema",
)  # fmt: skip
"""Keys under which training programs save weights; the first one that exists counts, and the others are named. As in
DINO's own evaluation, the teacher comes before the student. Moving averages (DeiT, timm) count where they are alone."""
MAX_INDEX_BYTES = 16 << 20


class Weights(NamedTuple):
    """Weights that were read."""

    state: dict[str, Tensor]
    source: str  # the file or files, and the entry in them


def read_weights(path: Path, option: str) -> Weights:
    """The tensors of a file, or of a folder that this project or transformers wrote, whole or in parts.

    Args:
        option: option of the config, for messages.

    Raises:
        InputError: there is no such file, or it holds other things than names and tensors.
    """
    file = next((path / name for name in IN_FOLDERS if (path / name).is_file()), None) if path.is_dir() else path
    if file is None:
        raise InputError(f"{option}: no such file: {path / IN_FOLDERS[0]}, nor {', '.join(IN_FOLDERS[1:])}")
    if not file.is_file():
        raise InputError(f"{option}: no such file: {file}")
    try:
        return _read_parts(file) if file.name.endswith(".index.json") else _read_file(file)
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{option} {error}") from error


def _read_file(file: Path) -> Weights:
    return _read_torch(file) if _is_torch_file(file) else _read_safetensors(file)


def _is_torch_file(file: Path) -> bool:
    if file.suffix.lower() in (".safetensors", *TORCH_SUFFIXES):
        return file.suffix.lower() != ".safetensors"
    with file.open("rb") as stream:
        return stream.read(4).startswith(TORCH_BEGINNINGS)


def _read_safetensors(file: Path) -> Weights:
    try:
        return Weights(load_file(file), str(file))
    except SafetensorError as error:
        raise InputError(f"{file}: not a safetensors file: {error}") from error


def _read_torch(file: Path) -> Weights:
    try:
        content = load_torch_file(file)
    except ForeignObjects as error:
        raise InputError(
            f"{error}; to convert it, call safetensors.torch.save_file(its names and tensors, 'model.safetensors') in "
            "the program that wrote it"
        ) from error
    content, entry = unwrapped(content)
    return Weights(names_and_tensors(content, file), f"{file}{entry}")


def unwrapped(content: Any) -> tuple[Any, str]:
    """The names and tensors in a training program's file, and words for the entry that holds them."""
    path: list[str] = []
    others: list[str] = []
    while isinstance(content, dict) and len(path) < len(ENTRIES):
        present = [key for key in ENTRIES if isinstance(content.get(key), Mapping)]
        if not present:
            break
        others += present[1:]
        path.append(present[0])
        content = content[present[0]]
    if not path:
        return content, ""
    unread = f", not {', '.join(map(repr, others))}" if others else ""
    return content, f" ({'.'.join(path)!r} in it{unread})"


def _read_parts(index: Path) -> Weights:
    """Weights in several files, which an index lists."""
    names = _part_names(index)
    state: dict[str, Tensor] = {}
    for name in names:
        file = index.parent / name
        if not file.is_file():
            raise InputError(f"{file}: no such file, but {index.name} names it")
        part = _read_file(file).state
        if twice := sorted(state.keys() & part.keys()):
            raise InputError(f"{file}: it holds {twice[0]}, as another part does")
        state |= part
    return Weights(state, f"{index.parent} ({len(names)} files)")


def _part_names(index: Path) -> list[str]:
    """The files that an index lists, which must lie beside it."""
    try:
        text = index.read_bytes()[: MAX_INDEX_BYTES + 1]
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{index}: not an index of weights: {error!r:.200}") from error
    if len(text) > MAX_INDEX_BYTES:
        raise InputError(f"{index}: expected at most {MAX_INDEX_BYTES:,} bytes")
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: expected names and files under weight_map, got {form(weight_map)}")
    names = sorted(set(map(str, weight_map.values())))
    for name in names:
        if Path(name).name != name or Path(name).suffix not in (".safetensors", *TORCH_SUFFIXES) or "\0" in name:
            raise InputError(f"{index}: expected files of weights beside it, got {name!r:.60}")
    return names
