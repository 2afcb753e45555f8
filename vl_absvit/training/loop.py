"""The training loop: one straight function for every task, number of processes and accumulation.

The learning rate follows from the optimizer step, and the random numbers from seed, step and process. Neither depends
on what happened before, so a resumed run repeats the uninterrupted one.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import is_tensorboard_available, is_wandb_available
from accelerate.utils import send_to_device
from torch import Tensor

from vl_absvit.cli import progress
from vl_absvit.config import RunConfig
from vl_absvit.distributed import gather_objects
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.tasks.base import RunnableConfig, Task, epoch_batches, passes_per_step, steps_per_epoch
from vl_absvit.training.checkpoint import (
    RunState,
    find_checkpoint,
    read_training_state,
    save_checkpoint,
    write_training_state,
)
from vl_absvit.training.optim import build_optimizer, describe_groups, lr_factor
from vl_absvit.training.run_dir import LOGGER, RunFolder, config_as_dict, flatten, open_run


def train(config: RunnableConfig, task: Task, accelerator: Accelerator, run: RunFolder) -> None:
    """Train ``task.model`` to the end of the last epoch, going on from the run's last checkpoint where there is one."""
    optim, device, world_size = config.optim, accelerator.device, accelerator.num_processes
    epoch_steps = steps_per_epoch(optim, task.train_set)
    total_steps = optim.epochs * epoch_steps
    accelerator.gradient_accumulation_steps = passes_per_step(optim, world_size)

    optimizer = build_optimizer(task.model.to(device), task.lr_of(), optim)
    state = RunState(step=0, total_steps=total_steps, best=None)
    if config.run.resume:
        state = _resume(run, task, optimizer, state)
    model, prepared_optimizer = accelerator.prepare(task.model, optimizer)
    start_trackers(accelerator, config, state.step)
    LOGGER.info(describe_groups(optimizer.param_groups))
    LOGGER.info(
        f"{total_steps} optimizer steps of {optim.batch_size} samples in {optim.epochs} epochs: {world_size} "
        f"process(es) on {device.type}, "
        f"{accelerator.gradient_accumulation_steps} forward pass(es) a step, {config.run.precision}"
    )

    with progress() as bar:
        shown = bar.add_task("training", total=total_steps, completed=state.step)
        for epoch in range(state.step // epoch_steps, optim.epochs):
            model.train()
            parts: list[dict[str, Tensor]] = []  # the loss terms of each forward pass of the current step
            logged_step, logged_time = state.step, time.monotonic()
            start_step, process = state.step % epoch_steps, accelerator.process_index
            for batch in epoch_batches(config, task.train_set, epoch, start_step, process, world_size):
                if not parts:
                    torch.manual_seed(seed_of(config.run.seed, state.step, process))
                with accelerator.accumulate(model):
                    terms = task.losses(model, send_to_device(batch, device))
                    accelerator.backward(sum(terms.values()))
                    parts.append({name: term.detach() for name, term in terms.items()})
                    if not accelerator.sync_gradients:
                        continue
                    grad_norm = accelerator.clip_grad_norm_(model.parameters(), optim.max_grad_norm or math.inf).item()
                    if not math.isfinite(grad_norm):
                        means = mean_terms(parts, accelerator)
                        raise InputError(f"step {state.step + 1}: not finite: {means | {'grad_norm': grad_norm}}")
                    factor = lr_factor(state.step, total_steps, optim.warmup_fraction)
                    for group in optimizer.param_groups:
                        group["lr"] = group["peak_lr"] * factor
                    prepared_optimizer.step()
                    prepared_optimizer.zero_grad()
                state = state._replace(step=state.step + 1)
                step_in_epoch = state.step - epoch * epoch_steps

                if state.step % config.run.log_every == 0 or state.step == total_steps:
                    means = mean_terms(parts, accelerator)
                    rate = (state.step - logged_step) * optim.batch_size / (time.monotonic() - logged_time)
                    rates = {f"lr/{name}": lr * factor for name, lr in task.lr_of().items()}
                    numbers = {**means, **rates, "grad_norm": grad_norm, "samples_per_second": round(rate, 2)}
                    run.write_metrics(step=state.step, epoch=epoch, **numbers)
                    accelerator.log(numbers, step=state.step)
                    bar.update(shown, description=f"epoch {epoch + 1}/{optim.epochs}, loss {sum(means.values()):.4g}")
                    logged_step, logged_time = state.step, time.monotonic()
                parts = []
                bar.update(shown, advance=1)

                if is_evaluation_step(step_in_epoch, epoch_steps, config.run.evaluations_per_epoch):
                    model.eval()
                    # Processes may hold unequal numbers of batches, and the wrapped model would wait for the others.
                    scores = task.evaluate(accelerator.unwrap_model(model))
                    model.train()
                    if scores is not None:
                        selected = {f"select/{name}": value for name, value in scores.items()}
                        run.write_metrics(step=state.step, epoch=epoch, **selected)
                        accelerator.log(selected, step=state.step)
                        LOGGER.info(f"step {state.step}: " + ", ".join(f"{k} {v:.2f}" for k, v in selected.items()))
                        if state.best is None or scores[task.select_metric] > state.best:
                            state = state._replace(best=scores[task.select_metric])
                            _in_main_process(accelerator, lambda: save_checkpoint(run.best, task.save))
                    _in_main_process(accelerator, lambda: _save_last(run.last, task, optimizer, state))  # noqa: B023
                    logged_step, logged_time = state.step, time.monotonic()
    assert state.step == total_steps, (state.step, total_steps)
    LOGGER.info(
        f"done: {run.last}"
        + ("" if state.best is None else f", best {task.select_metric} {state.best:.2f} in {run.best}")
    )


def launch(config: RunnableConfig, make_task: Callable[[Any], Task]) -> None:
    """A whole run in this process: devices, run folder, task, training."""
    accelerator = make_accelerator(config.run)
    run = open_run(config, accelerator.is_main_process)
    train(config, make_task(config), accelerator, run)
    accelerator.end_training()


def make_accelerator(config: RunConfig | None = None) -> Accelerator:
    """The process group and device: GPU processes of the launcher, or CPU processes over gloo; fp32 without a config.

    Raises ``ConfigError`` where the launcher's processes would not work together, or a tracker is not installed.
    """
    trackers = [] if config is None else list(config.trackers)
    installed = {"tensorboard": is_tensorboard_available(), "wandb": is_wandb_available()}
    for tracker in trackers:
        if not installed[tracker]:
            raise ConfigError(
                f"run.trackers names {tracker}, which is not installed; install it or set run.trackers to []"
            )
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if config is not None and config.precision == "bf16" else "no",
        log_with=trackers or None,
        project_dir=None if config is None else config.output,
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise ConfigError(
            f"the launcher started {launched} processes, but {accelerator.num_processes} of them work together"
        )
    return accelerator


def start_trackers(accelerator: Accelerator, config: RunnableConfig, step: int) -> None:
    """Open the trackers with the run's config; TensorBoard drops what a resumed run will write again."""
    flat = {
        key: value if isinstance(value, (int, float, str)) else str(value)
        for key, value in flatten(config_as_dict(config)).items()
    }
    accelerator.init_trackers("trackers", config=flat, init_kwargs={"tensorboard": {"purge_step": step + 1}})


def is_evaluation_step(step_in_epoch: int, steps_per_epoch: int, per_epoch: int) -> bool:
    """Whether the ``step_in_epoch``-th step (from 1) ends one of ``per_epoch`` equal parts of the epoch."""
    return step_in_epoch * per_epoch // steps_per_epoch > (step_in_epoch - 1) * per_epoch // steps_per_epoch


def seed_of(seed: int, step: int, process: int) -> int:
    """Seed of the random numbers (dropout, stochastic depth) that one process draws in one optimizer step."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {process}".encode()).digest()[:7])


def mean_terms(parts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator) -> dict[str, float]:
    """Every loss term's mean over the forward passes of a step and over processes."""
    names = list(parts[0])
    local = torch.stack([torch.stack([part[name].float() for part in parts]).mean() for name in names])
    return dict(zip(names, accelerator.reduce(local, reduction="mean").tolist(), strict=True))


def _resume(run: RunFolder, task: Task, optimizer: torch.optim.Optimizer, fresh: RunState) -> RunState:
    checkpoint, passed_over = find_checkpoint(run.last)
    for reason in passed_over:
        LOGGER.warning(f"passed over: {reason}")
    state = fresh
    if checkpoint is not None:
        task.check_saved(checkpoint)
        state = read_training_state(checkpoint, task.model, optimizer)
    if state.total_steps != fresh.total_steps:
        raise InputError(
            f"checkpoint {checkpoint} belongs to a run of {state.total_steps} steps, this one has {fresh.total_steps}: "
            "has the data changed?"
        )
    run.forget_metrics_after(state.step)
    LOGGER.info(f"going on from {checkpoint or 'the beginning'} at step {state.step} of {state.total_steps}")
    return state


def _save_last(folder: Path, task: Task, optimizer: torch.optim.Optimizer, state: RunState) -> None:
    def write(new: Path) -> None:
        task.save(new)
        write_training_state(new, task.model, optimizer, state)

    save_checkpoint(folder, write, keep_previous=True)


def _in_main_process(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Run ``action`` in the main process only; its ``InputError`` is raised in every process."""
    failure = None
    if accelerator.is_main_process:
        try:
            action()
        except InputError as error:
            failure = str(error)
    failures = [text for text in gather_objects([failure]) if text is not None]
    if failures:
        raise InputError(failures[0])
