"""Checkpoints that are whole or absent: written beside the old one, flushed to disk, then renamed into its place.

A checkpoint folder is the task's portable folder plus ``training_state.{safetensors,json}`` and ``manifest.json``,
which is written last and holds the size and SHA-256 of every other file. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from vl_absvit.errors import InputError

MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
STATE_TENSORS = "training_state.safetensors"
STATE_NUMBERS = "training_state.json"


class RunState(NamedTuple):
    """Where a run stands. Random numbers need no place here: those of a step follow from seed, step and process."""

    step: int  # optimizer steps done
    total_steps: int
    best: float | None  # best value of the task's select_metric so far


def save_checkpoint(folder: Path, write: Callable[[Path], None], keep_previous: bool = False) -> None:
    """Replace ``folder`` by what ``write`` puts into an empty folder; at any moment one whole checkpoint is on disk.

    With ``keep_previous`` the replaced checkpoint stays as ``<folder>.previous``. A full disk or another failure to
    write raises ``InputError`` and leaves the old checkpoint as it was.
    """
    new, previous = _beside(folder)
    try:
        shutil.rmtree(new, ignore_errors=True)
        if is_whole(folder, read_all=False):
            shutil.rmtree(previous, ignore_errors=True)
        new.mkdir(parents=True)
        write(new)
        _seal(new)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        reason = getattr(error, "strerror", None) or error
        rest = "the one before it is untouched" if folder.exists() else "there was none before it"
        raise InputError(f"cannot save checkpoint {folder}: {reason}; {rest}") from error
    if folder.exists() and not previous.exists():
        folder.rename(previous)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    _flush(folder.parent)
    if not keep_previous:
        shutil.rmtree(previous, ignore_errors=True)


def find_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint at ``folder`` or beside it, and why others were passed over; None if there is none.

    Raises ``InputError`` where there are only broken ones.
    """
    passed_over = []
    for candidate in (folder, *_beside(folder)):
        if not candidate.exists():
            continue
        try:
            check_whole(candidate)
        except InputError as error:
            passed_over.append(str(error))
        else:
            return candidate, passed_over
    if (folder.exists() or _beside(folder)[1].exists()) and passed_over:
        raise InputError("no whole checkpoint to go on from: " + "; ".join(passed_over))
    return None, passed_over


def is_whole(folder: Path, read_all: bool = True) -> bool:
    """Whether ``check_whole`` finds nothing."""
    try:
        check_whole(folder, read_all)
    except InputError:
        return False
    return True


def check_whole(folder: Path, read_all: bool = True) -> None:
    """Raise ``InputError`` with the first file that is missing or cut short or, if all are read, changed."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            path = folder / name
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise InputError(f"checkpoint {folder}: {name} has {size} bytes, expected {expected['bytes']}")
            if read_all and _sha256(path) != expected["sha256"]:
                raise InputError(f"checkpoint {folder}: {name} is not what was saved (its SHA-256 differs)")
    except OSError as error:
        raise InputError(f"checkpoint {folder} is incomplete: {Path(error.filename).name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"checkpoint {folder}: {MANIFEST} is not one of ours: {error!r}") from error


def write_training_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    """Write the optimizer's tensors, keyed ``<entry>/<parameter name>``, and the run's position."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for entry, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{entry}/{name}"] = value.detach().cpu().contiguous()
    safetensors.torch.save_file(tensors, folder / STATE_TENSORS)
    (folder / STATE_NUMBERS).write_text(json.dumps({"format": 1, **state._asdict()}, indent=1) + "\n", encoding="utf-8")


def read_training_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState:
    """Fill ``model`` and ``optimizer`` from a checkpoint folder and return where the run stood."""
    try:
        safetensors.torch.load_model(model, folder / WEIGHTS, strict=True)
        tensors = safetensors.torch.load_file(folder / STATE_TENSORS)
        numbers = json.loads((folder / STATE_NUMBERS).read_text(encoding="utf-8"))
        state = RunState(**{name: numbers[name] for name in RunState._fields})
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint {folder} does not fit this run: {error}") from error
    names = {parameter: name for name, parameter in model.named_parameters()}
    entries: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        entry, name = key.split("/", 1)
        entries.setdefault(name, {})[entry] = value
    saved = optimizer.state_dict()
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved["state"] = {index: entries[names[p]] for index, p in enumerate(ordered) if names[p] in entries}
    optimizer.load_state_dict(saved)
    return state


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.previous")


def _seal(folder: Path) -> None:
    """Flush every file to disk and write the manifest that makes the folder a checkpoint."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        _flush(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=1) + "\n", encoding="utf-8")
    _flush(manifest)
    _flush(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """fsync of a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
