"""Experiment trackers: TensorBoard in the run folder, Weights & Biases as one run however often it goes on."""

import os
import re
import uuid
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker, on_main_process

from vl_absvit.config import RunConfig, TaskConfig
from vl_absvit.data.files import write_text
from vl_absvit.errors import InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.training.same_run import config_as_dict, flatten

PROJECT = "vl_absvit"
ID_FILE = "wandb_id"


class OneWandBRun(WandBTracker):
    """W&B's tracker for a run that may go on from a step before the last one it told of.

    W&B drops what is logged for a step behind its own count. The step is therefore a number among the others, and
    the axis that charts are drawn over; what a run that goes on tells again is there twice.
    """

    @on_main_process
    def start(self) -> None:
        super().start()
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        super().log({**values, "step": step}, **kwargs)


def start_trackers(accelerator: Accelerator, config: TaskConfig, step: int) -> None:
    """Open the trackers with the run's config; TensorBoard drops what a resumed run will write again.

    Raises:
        InputError: W&B refuses to start, or the id that was kept of it is damaged.
    """
    trackers = [_tracker(name, config.run, step) for name in config.run.trackers]
    for tracker in trackers:
        in_main_process(lambda tracker=tracker: _start(tracker))
        tracker.store_init_configuration(_plain(config))
    accelerator.trackers = trackers


def _tracker(name: str, run: RunConfig, step: int) -> GeneralTracker:
    if name == "tensorboard":
        return TensorBoardTracker("trackers", run.output, purge_step=step + 1)
    project, how = wandb_settings(run, in_main_process(lambda: run_id(run)))
    return OneWandBRun(project, **how)


def _start(tracker: GeneralTracker) -> None:
    if tracker.name != "wandb":
        return tracker.start()
    import wandb

    try:
        tracker.start()
    except (wandb.Error, ValueError) as error:
        raise InputError(
            f"run.trackers: W&B does not start: {' '.join(str(error).split())}; WANDB_MODE=offline needs no account"
        ) from error


def wandb_settings(run: RunConfig, run_id: str) -> tuple[str, dict[str, Any]]:
    """Project, and what else ``wandb.init`` is told; the environment decides where the config says nothing."""
    environment = os.environ
    project = run.project or environment.get("WANDB_PROJECT") or PROJECT
    name = run.name or environment.get("WANDB_NAME") or Path(run.output).resolve().name
    folder = environment.get("WANDB_DIR") or run.output
    return project, {"name": name, "id": run_id, "resume": "allow", "dir": folder}


def run_id(run: RunConfig) -> str:
    """W&B's id of the run: the one kept in the run folder if the run goes on, else a new one, which is kept there.

    Raises:
        InputError: what is kept there is no id.
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
    """The whole config by dotted keys, in values that every tracker takes."""
    flat = flatten(config_as_dict(config))
    return {key: value if isinstance(value, (int, float, str)) else str(value) for key, value in flat.items()}
