"""Experiment trackers: TensorBoard in the run folder, and Weights & Biases. A resumed run stays one run in both."""

import os
import re
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker, on_main_process

from vl_absvit.config import RunConfig, TaskConfig
from vl_absvit.data.files import write_text
from vl_absvit.errors import InputError, one_line
from vl_absvit.main_process import in_main_process
from vl_absvit.training.same_run import config_as_dict, flatten

PROJECT = "vl_absvit"
ID_FILE = "wandb_id"


class OneWandBRun(WandBTracker):
    """W&B's tracker for a run that may resume at a step before the last logged one.

    W&B drops values of a step behind its own count. The step is therefore logged as a value and serves as the axis of
    charts. Steps that a resumed run repeats appear twice.
    """

    @on_main_process  # type: ignore[untyped-decorator]  # accelerate has no types
    def start(self) -> None:
        super().start()
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    @on_main_process  # type: ignore[untyped-decorator]  # accelerate has no types
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        super().log({**values, "step": step}, **kwargs)


def start_trackers(accelerator: Accelerator, config: TaskConfig, step: int) -> None:
    """Open the trackers with the run's config. TensorBoard drops the steps that a resumed run repeats.

    Raises:
        InputError: W&B refuses to start, or the kept id of its run is damaged.
    """
    trackers = [_tracker(name, config.run, step) for name in config.run.trackers]
    for tracker in trackers:
        in_main_process(partial(_start, tracker, config))
    accelerator.trackers = trackers


def _tracker(name: str, run: RunConfig, step: int) -> GeneralTracker:
    if name == "tensorboard":
        return TensorBoardTracker("trackers", run.output, purge_step=step + 1)
    project, how = wandb_settings(run, in_main_process(lambda: run_id(run)))
    return OneWandBRun(project, **how)


def _start(tracker: GeneralTracker, config: TaskConfig) -> None:
    if tracker.name == "wandb":
        _start_wandb(tracker)
    else:
        tracker.start()
    tracker.store_init_configuration(_plain(config))


def _start_wandb(tracker: GeneralTracker) -> None:
    import wandb

    try:
        tracker.start()
    except (wandb.Error, ValueError) as error:
        raise InputError(
            f"run.trackers: W&B does not start: {one_line(error)}; WANDB_MODE=offline needs no account"
        ) from error


def wandb_settings(run: RunConfig, run_id: str) -> tuple[str, dict[str, Any]]:
    """The project and the other arguments of ``wandb.init``. The environment decides what the config leaves open."""
    environment = os.environ
    project = run.project or environment.get("WANDB_PROJECT") or PROJECT
    name = run.name or environment.get("WANDB_NAME") or Path(run.output).resolve().name
    folder = environment.get("WANDB_DIR") or run.output
    return project, {"name": name, "id": run_id, "resume": "allow", "dir": folder}


def run_id(run: RunConfig) -> str:
    """W&B's id of the run. A resumed run reads it from the run folder; a new run makes it and keeps it there.

    Raises:
        InputError: the kept text is no id.
    """
    path = Path(run.output) / ID_FILE
    if run.resume and path.exists():
        kept = path.read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", kept):
            raise InputError(
                f"{path}: expected the id of a W&B run, got {kept!r:.60}; remove the file to begin another"
            )
        return kept
    made = os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12]
    write_text(path, f"{made}\n")
    return made


def _plain(config: TaskConfig) -> dict[str, int | float | str]:
    """The whole config by dotted keys, with values that every tracker accepts."""
    flat = flatten(config_as_dict(config))
    return {key: value if isinstance(value, (int, float, str)) else str(value) for key, value in flat.items()}
