"""A run's position and optimizer state, saved with every checkpoint in ``training_state.{safetensors,json}``.

Random numbers and the order of the data are not saved: seed, step and process determine them. Nothing is pickled.
"""

import json
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from vl_absvit.errors import InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.tasks.base import Task, new_run_from
from vl_absvit.training.checkpoint import find_checkpoint, finish_save, save_checkpoint
from vl_absvit.training.run_dir import LOGGER, RunFolder

WEIGHTS = "model.safetensors"
TENSORS = "training_state.safetensors"
NUMBERS = "training_state.json"

OptimizerState = dict[str, dict[str, torch.Tensor]]
"""Parameter name -> the optimizer's entries for it."""


class RunState(NamedTuple):
    """The position of a run."""

    step: int  # finished optimizer steps
    total_steps: int
    best: float | None  # best value of the task's select_metric in finished evaluations, before that of this step


def save_last(run: RunFolder, task: Task, optimizer_state: OptimizerState, state: RunState) -> None:
    """Save everything that resuming needs, and keep the previous save. All processes call this; the main one writes."""

    def write(folder: Path) -> None:
        task.save(folder)
        write_training_state(folder, optimizer_state, state)

    def save() -> None:
        run.flush_metrics()  # a checkpoint is never ahead of them
        save_checkpoint(run.last, write, keep_previous=True)

    in_main_process(save)


def find_last(run: RunFolder) -> Path | None:
    """The newest whole checkpoint of a run; None if there is none. The search reads all of it and is done once.

    Raises ``InputError`` if there are only broken ones.
    """

    def find() -> Path | None:
        finish_save(run.last, keep_previous=True)
        finish_save(run.best)
        checkpoint, passed_over = find_checkpoint(run.last)
        for reason in passed_over:
            LOGGER.warning(f"passed over: {reason}")
        return checkpoint

    if run.newest is None:
        run.newest = (in_main_process(find),)
    return run.newest[0]


def go_on(run: RunFolder, task: Task, fresh: RunState) -> tuple[RunState, OptimizerState]:
    """Fill the model from the newest whole checkpoint. Returns its position and the optimizer's tensors.

    Without a checkpoint these are ``fresh`` and no tensors. Raises ``InputError`` if all checkpoints are broken or of
    another run.
    """
    checkpoint, state = find_last(run), fresh
    optimizer_state: OptimizerState = {}
    if checkpoint is not None:
        task.check_saved(checkpoint)
        state, optimizer_state = read_training_state(checkpoint, task.model)
        if state.total_steps != fresh.total_steps:
            raise InputError(
                f"checkpoint {checkpoint} belongs to a run of {state.total_steps} steps, this one has "
                f"{fresh.total_steps}: has the data changed? Bring it back as it was to go on, or "
                f"{new_run_from(checkpoint)}"
            )
    in_main_process(lambda: run.forget_metrics_after(state.step))
    LOGGER.info(f"going on from {checkpoint or 'the beginning'} at step {state.step} of {state.total_steps}")
    return state, optimizer_state


def write_training_state(folder: Path, optimizer_state: OptimizerState, state: RunState) -> None:
    """Write the optimizer's tensors under ``<entry>/<parameter name>``, and the run's position."""
    tensors = {
        f"{entry}/{name}": value for name, entries in optimizer_state.items() for entry, value in entries.items()
    }
    safetensors.torch.save_file(tensors, folder / TENSORS)
    (folder / NUMBERS).write_text(json.dumps({"format": 1, **state._asdict()}, indent=1) + "\n", encoding="utf-8")


def read_training_state(folder: Path, model: nn.Module) -> tuple[RunState, OptimizerState]:
    """Fill ``model`` from a checkpoint folder. Returns the run's position and the optimizer's tensors."""
    try:
        safetensors.torch.load_model(model, folder / WEIGHTS, strict=True)
        tensors = safetensors.torch.load_file(folder / TENSORS)
        numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        state = RunState(**{name: numbers[name] for name in RunState._fields})
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint {folder} does not fit this run: {error}") from error
    optimizer_state: OptimizerState = {}
    for key, value in tensors.items():
        entry, name = key.split("/", 1)
        optimizer_state.setdefault(name, {})[entry] = value
    if strangers := optimizer_state.keys() - {name for name, _ in model.named_parameters()}:
        raise InputError(f"checkpoint {folder} does not fit this run: {TENSORS} knows a parameter {min(strangers)}")
    return state, optimizer_state
