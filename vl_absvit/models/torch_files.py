"""Read PyTorch's own files (``.pth``, ``.pt``, ``.bin``, ``.ckpt``): tensors, numbers and texts, never code.

``torch.load(weights_only=True)`` builds tensors and plain containers only. Empty classes replace the few others that
ordinary files name, see ``stand_ins.py``.

A hostile file may still hold nested tuples as keys, which take Python forever to hash or overflow its stack; unpack to
far more than its size; or describe tensors of terabytes by a few numbers. Such files are refused first.
"""

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.stand_ins import stand_ins


class ForeignObjects(InputError):
    """The file holds more than tensors, numbers and texts."""


MAX_TUPLE_PARTS = 10_000
"""Most parts of a tuple, nested tuples included. Ordinary tuples, such as shapes, have a few."""
MAX_AMPLIFICATION = 4
"""Largest ratio of the size of all tensors to the size of the file. Tied weights count twice and are written once."""


def load_torch_file(path: Path) -> Any:
    """The content of a file of ``torch.save``.

    Raises:
        ForeignObjects: it holds objects that this project does not need.
        InputError: it is no such file, is damaged, or hostile.
    """
    try:
        names = _check_pickles(path)
        with torch.serialization.safe_globals(stand_ins(names)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # If the format allows it, the optimizer's state stays on disk. It is twice the size of the weights.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    except InputError:
        raise
    except Exception as error:  # random bytes make the unpickler raise all kinds of errors
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            reason = f"refused, it holds {foreign[1]}, which is no tensor, number or text; nothing of it was run"
            raise ForeignObjects(f"{path}: {reason}") from error
        if isinstance(error, pickle.UnpicklingError):  # the library's message advises to load the file unsafely
            reason = "refused, it holds more than tensors, numbers and texts, or is damaged; nothing of it was run"
            raise ForeignObjects(f"{path}: {reason}") from error
        raise InputError(f"{path}: not a PyTorch checkpoint, or cut short") from error


def names_and_tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """Names and tensors out of the result of ``load_torch_file``. No two of the tensors share storage.

    Raises ``InputError`` for anything else, and for tensors far larger than their file.
    """
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path}: expected names and tensors, got {form(state)}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InputError(f"{path}: expected names and tensors, got {form(value)} under {key!r:.60}")
    size, limit = sum(value.nbytes for value in state.values()), MAX_AMPLIFICATION * path.stat().st_size
    if size > limit:
        raise InputError(f"{path}: its tensors would take {size:,} bytes, more than {MAX_AMPLIFICATION} times its own")
    return _with_own_storage(state)


def form(value: object) -> str:
    """A description of a part of a file, for messages."""
    if isinstance(value, dict):
        return f"entries such as {', '.join(f'{key!r:.60}' for key in list(value)[:3])}" if value else "nothing"
    return "nothing" if value is None else f"an object of type {type(value).__name__}"


def _is_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _check_pickles(path: Path) -> set[tuple[str, str]]:
    """Refuse compressed archives, which PyTorch does not write, and pickles with deeply nested tuples.

    Returns the classes and functions that the pickles name, as (module, name).
    """
    names: set[tuple[str, str]] = set()
    if not _is_archive(path):
        with path.open("rb") as stream:
            for _ in range(_PICKLES_OF_THE_OLD_FORMAT):
                _check_tuples(stream, path, names)
        return names
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > path.stat().st_size:
                raise InputError(f"{path}: {member.filename!r:.60} is compressed, which PyTorch's own files never are")
            if member.filename.endswith(".pkl"):
                _check_tuples(io.BytesIO(archive.read(member)), path, names)  # a wrong checksum fails here
    return names


_PICKLES_OF_THE_OLD_FORMAT = 5  # magic number, version, byte order, content, names of storages
_MARK = pickletools.markobject


def _check_tuples(stream: BinaryIO, path: Path, names: set[tuple[str, str]]) -> None:
    """Read a pickle without building anything. Count the parts of every tuple and collect the named classes."""
    sizes: list[Any] = []  # of the objects that would be on the stack: parts of tuples, 1 for other objects
    memo: dict[Any, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            _follow(opcode, argument, sizes, memo)
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                names.add((module, name))
            if sizes and sizes[-1] is not _MARK and sizes[-1] > MAX_TUPLE_PARTS:
                raise InputError(f"{path}: refused, it holds tuples in tuples without end; nothing of it was run")
    except InputError:
        raise
    except Exception:  # no pickle, or a damaged one; the unpickler will refuse it at the same place
        return


def _follow(opcode: pickletools.OpcodeInfo, argument: Any, sizes: list[Any], memo: dict[Any, Any]) -> None:
    """Apply one operation of the unpickler to the stack of sizes."""
    if opcode.name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = sizes[-1]
        return
    taken = 0
    if _MARK in opcode.stack_before:
        while (size := sizes.pop()) is not _MARK:
            taken += size
    for slot in opcode.stack_before:
        if slot is not _MARK and slot is not pickletools.stackslice:
            taken += sizes.pop()
    if opcode.name in ("BINGET", "LONG_BINGET"):
        sizes.append(memo[argument])
    elif "TUPLE" in opcode.name:
        sizes.append(1 + taken)
    else:
        sizes += [_MARK if slot is _MARK else 1 for slot in opcode.stack_after]


def _with_own_storage(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share storage. ``rank_output`` of the retrieval models, for one, is a row of ``itm_score``."""
    own, taken = {}, set()
    for key, value in state.items():
        storage = value.untyped_storage()
        is_shared = storage.data_ptr() in taken or storage.nbytes() != value.nbytes or not value.is_contiguous()
        own[key] = value.clone(memory_format=torch.contiguous_format) if is_shared else value
        taken.add(own[key].untyped_storage().data_ptr())
    return own
