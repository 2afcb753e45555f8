"""The training loop: one straight function for every task, number of processes and accumulation.

The optimizer step determines the learning rate. Seed, step and process determine the random numbers. Neither depends on
earlier events, so a resumed run repeats the uninterrupted one.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.tracking import is_tensorboard_available, is_wandb_available
from accelerate.utils import InitProcessGroupKwargs, is_deepspeed_available, send_to_device
from torch import Tensor, nn

from vl_absvit.cli import progress
from vl_absvit.config import RunConfig, TaskConfig
from vl_absvit.distributed import PATIENCE
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.main_process import in_main_process
from vl_absvit.tasks.base import Task, epoch_batches, in_groups, passes_per_step, steps_per_epoch
from vl_absvit.training.checkpoint import save_checkpoint
from vl_absvit.training.compiled import compile_forward, uncompiled
from vl_absvit.training.engines import (
    asks_for_deepspeed,
    check_accumulation,
    check_precision,
    clip_gradients,
    ddp_options,
    fill_optimizer_state,
    gather_optimizer_state,
    gather_weights,
    model_to_train,
    prepare,
    set_up_engine,
)
from vl_absvit.training.optim import build_optimizer, describe_groups, rate_factor
from vl_absvit.training.preemption import Preemption, command_to_go_on
from vl_absvit.training.run_dir import LOGGER, SELECT, RunFolder, open_run
from vl_absvit.training.state import OptimizerState, RunState, find_last, go_on, save_last
from vl_absvit.training.trackers import start_trackers


def train(config: TaskConfig, task: Task, accelerator: Accelerator, run: RunFolder) -> None:
    """Train ``task.model`` to the end of the last epoch. A resumed run goes on from its last checkpoint.

    A preemption signal (``Preemption``) ends training earlier: after a step, with everything saved.
    """
    optim, device, world_size = config.optim, accelerator.device, accelerator.num_processes
    epoch_steps = steps_per_epoch(optim, task.train_set)
    total_steps = optim.epochs * epoch_steps
    accelerator.gradient_accumulation_steps = passes_per_step(optim, world_size)

    state = RunState(step=0, total_steps=total_steps, best=None)
    optimizer_state: OptimizerState = {}
    if config.run.resume:
        state, optimizer_state = go_on(run, task, state)
    task.model.to(device)
    task.get_ready()
    trained = model_to_train(accelerator, task.model, config.run.precision)
    if config.run.compile:
        compile_forward(trained, accelerator)
    optimizer = build_optimizer(trained, task.lr_of(), optim)
    LOGGER.info(describe_groups(optimizer.param_groups))
    model, prepared_optimizer = prepare(accelerator, trained, optimizer, optim)
    if optimizer_state:
        fill_optimizer_state(accelerator, model, optimizer, optimizer_state)
    start_trackers(accelerator, config, state.step)
    LOGGER.info(
        f"{total_steps} optimizer steps of {optim.batch_size} samples in {optim.epochs} epochs: {world_size} "
        f"process(es) on {device.type} ({accelerator.distributed_type.value}), "
        f"{accelerator.gradient_accumulation_steps} forward pass(es) a step, {config.run.precision}"
    )

    with progress() as bar, Preemption() as preemption:
        shown = bar.add_task("training", total=total_steps, completed=state.step)
        if is_evaluation_step(state.step, epoch_steps, config.run.evaluations_per_epoch):
            state = evaluate(task, accelerator, run, state, (state.step - 1) // epoch_steps)
        first_epoch, process = state.step // epoch_steps, accelerator.process_index
        # One iterator for all remaining epochs: loader processes stay alive, and the next epoch begins at once.
        micro_batches = epoch_batches(
            config, task.train_set, first_epoch, state.step % epoch_steps, process, world_size,
            epochs=optim.epochs - first_epoch,
        )  # fmt: skip
        steps = in_groups(micro_batches, accelerator.gradient_accumulation_steps)
        for epoch in range(first_epoch, optim.epochs):
            model.train()
            task.model.train()
            logged_step, logged_time = state.step, time.monotonic()
            for batches in islice(steps, (epoch + 1) * epoch_steps - state.step):
                seeds = [seed_of(config.run.seed, state.step, process, number) for number in range(len(batches))]
                factor = rate_factor(state.step, epoch_steps, optim)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * factor
                is_logged = (state.step + 1) % config.run.log_every == 0 or state.step + 1 == total_steps
                taken = take_step(
                    task, model, accelerator, prepared_optimizer, batches, seeds, optim.max_grad_norm, is_logged
                )
                state = state._replace(step=state.step + 1)
                if not math.isfinite(taken.grad_norm):
                    raise InputError(f"step {state.step}: not finite: {taken.means | {'grad_norm': taken.grad_norm}}")
                stop = preemption.is_asked_for()

                if is_logged:
                    rate = (state.step - logged_step) * optim.batch_size / (time.monotonic() - logged_time)
                    rates = {f"lr/{name}": lr * factor for name, lr in task.lr_of().items()}
                    numbers = {
                        **taken.means, **rates, "grad_norm": taken.grad_norm, "samples_per_second": round(rate, 2)
                    }  # fmt: skip
                    record(run, accelerator, state.step, epoch, numbers)
                    loss = sum(taken.means.values())
                    bar.update(shown, description=f"epoch {epoch + 1}/{optim.epochs}, loss {loss:.4g}")
                    logged_step, logged_time = state.step, time.monotonic()
                bar.update(shown, advance=1)

                is_due = is_evaluation_step(state.step, epoch_steps, config.run.evaluations_per_epoch)
                if is_due or stop:
                    # Save before evaluating, which may take longer than a scheduler waits. Then only it is repeated.
                    gather_weights(accelerator, model, task.model)
                    save_last(run, task, gather_optimizer_state(accelerator, model, optimizer), state)
                if is_due and not stop:
                    state = evaluate(task, accelerator, run, state, epoch)
                    stop = state.step < total_steps and preemption.is_asked_for()
                    logged_step, logged_time = state.step, time.monotonic()
                if stop:
                    LOGGER.info(
                        f"asked to stop by a signal: saved step {state.step} of {total_steps} in {run.last}; "
                        f"to go on, launch again with: {command_to_go_on()}"
                    )
                    return
    assert state.step == total_steps, (state.step, total_steps)
    LOGGER.info(
        f"done: {run.last}"
        + ("" if state.best is None else f", best {task.select_metric} {state.best:.2f} in {run.best}")
    )


class Taken(NamedTuple):
    """The results of a step on the host."""

    grad_norm: float  # before clipping
    means: dict[str, float]  # mean of every loss term over passes and processes; empty if not requested


def take_step(
    task: Task,
    model: nn.Module,
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Any],
    seeds: Sequence[int],
    max_norm: float | None,
    is_logged: bool,
) -> Taken:
    """Take one optimizer step. Skip the update if a gradient is not finite. The host waits for the device once.

    Args:
        batches: one for each pass, in host memory.
        seeds: seeds of the random numbers of each pass.
        max_norm: largest norm of the gradient; it is clipped to this.
        is_logged: whether to return means of the losses. They are also returned if a gradient is not finite.
    """
    device = next(model.parameters()).device
    batches = send_to_device(batches, device, non_blocking=True)
    parts = accumulate_gradients(task, model, accelerator, batches, seeds)
    norm = clip_gradients(accelerator, model, max_norm)
    means = mean_terms(parts, accelerator) if is_logged else norm.new_zeros(0)
    grad_norm, *values = torch.cat([norm.reshape(1), means]).tolist()
    if not math.isfinite(grad_norm):
        return Taken(grad_norm, dict(zip(parts[0], mean_terms(parts, accelerator).tolist(), strict=True)))
    optimizer.step()
    optimizer.zero_grad()
    return Taken(grad_norm, dict(zip(parts[0], values, strict=True)) if is_logged else {})


def accumulate_gradients(
    task: Task, model: nn.Module, accelerator: Accelerator, batches: Sequence[Any], seeds: Sequence[int]
) -> list[dict[str, Tensor]]:
    """Run the forward and backward passes of one optimizer step. Returns the loss terms of each pass.

    Args:
        batches: one for each pass.
        seeds: seeds of the random numbers of each pass.
    """
    ahead: Sequence[Any] = [None]
    if len(batches) > 1:
        gather_weights(accelerator, model, task.model)
        with torch.no_grad():
            ahead = task.look_ahead(batches, seeds)
    parts = []
    for batch, seed, seen_ahead in zip(batches, seeds, ahead, strict=True):
        torch.manual_seed(seed)
        with accelerator.accumulate(model):
            terms = task.losses(model, batch, seen_ahead)
            accelerator.backward(sum(terms.values()))
        parts.append({name: term.detach() for name, term in terms.items()})
    return parts


def evaluate(task: Task, accelerator: Accelerator, run: RunFolder, state: RunState, epoch: int) -> RunState:
    """Evaluate on the selection split and save the model if it is the best so far. Returns ``state`` with that score.

    The line in metrics.jsonl is written last. A resumed run that finds it reads it and skips the evaluation.
    """
    scores = in_main_process(lambda: run.scores_at(state.step))
    if scores is not None:
        best = scores[task.select_metric]
        return state._replace(best=best if state.best is None else max(best, state.best))
    task.model.eval()
    # Processes may have unequal numbers of batches, and the wrapped model would wait for other processes.
    with uncompiled(task.model):
        scores = task.evaluate(task.model)
    task.model.train()
    if scores is None:
        return state
    if state.best is None or scores[task.select_metric] > state.best:
        state = state._replace(best=scores[task.select_metric])
        in_main_process(lambda: save_checkpoint(run.best, task.save))
    selected = {f"{SELECT}{name}": value for name, value in scores.items()}
    LOGGER.info(f"step {state.step}: " + ", ".join(f"{k} {v:.2f}" for k, v in selected.items()))
    record(run, accelerator, state.step, epoch, selected)
    return state


def record(run: RunFolder, accelerator: Accelerator, step: int, epoch: int, numbers: Mapping[str, float]) -> None:
    """Hand numbers to the trackers, and then to metrics.jsonl. The main process does; all call this and hear of it."""

    def write() -> None:
        accelerator.log(dict(numbers), step=step)
        run.write_metrics(step=step, epoch=epoch, **numbers)

    in_main_process(write)


def launch(config: TaskConfig, make_task: Callable[[Any, Path | None], Task]) -> None:
    """A whole run in this process: devices, run folder, task, training.

    Args:
        make_task: makes the task from a config and the checkpoint to go on from (None at the beginning).
    """
    accelerator = make_accelerator(config.run)
    run = open_run(config)
    checkpoint = find_last(run) if config.run.resume else None
    train(config, make_task(config, checkpoint), accelerator, run)
    accelerator.end_training()


def make_accelerator(config: RunConfig | None = None) -> Accelerator:
    """Set up process group and device: the launcher's GPU processes, or CPU processes over gloo. No config means fp32.

    Raises ``ConfigError`` if the launcher's processes or engine do not work as requested, or if an engine or tracker is
    not installed.
    """
    trackers = [] if config is None else list(config.trackers)
    installed = {"tensorboard": is_tensorboard_available(), "wandb": is_wandb_available()}
    for tracker in trackers:
        if not installed[tracker]:
            raise ConfigError(
                f"run.trackers names {tracker}, which is not installed; pip install {tracker} or set run.trackers to []"
            )
    if asks_for_deepspeed() and not is_deepspeed_available():
        raise ConfigError("the launcher asks for DeepSpeed, which is not installed; pip install 'vl_absvit[deepspeed]'")
    if config is not None:
        check_precision(config.precision)
        check_accumulation()
    on_cpu = not torch.accelerator.is_available()
    backend = {"backend": "gloo"} if on_cpu and asks_for_deepspeed() else {}
    accelerator = Accelerator(
        # ``cpu=True`` switches DeepSpeed off. Without it, CPU processes need the backend by name.
        cpu=on_cpu and not asks_for_deepspeed(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE, **backend), ddp_options()],
        mixed_precision="no",  # tasks set it through ``precision.py``
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise ConfigError(
            f"the launcher started {launched} processes, but {accelerator.num_processes} of them work together"
        )
    set_up_engine(accelerator)
    return accelerator


def is_evaluation_step(step: int, steps_per_epoch: int, per_epoch: int) -> bool:
    """Whether the ``step``-th step of a run (from 1) ends one of ``per_epoch`` equal parts of an epoch."""
    return step > 0 and step * per_epoch // steps_per_epoch > (step - 1) * per_epoch // steps_per_epoch


def seed_of(seed: int, step: int, process: int, number: int) -> int:
    """Seed of the random numbers (dropout, stochastic depth) of a process in one forward pass of an optimizer step."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {process} {number}".encode()).digest()[:7])


def mean_terms(parts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator) -> Tensor:
    """Every loss term's mean over the forward passes of a step and over processes, in the terms' order."""
    local = torch.stack([torch.stack([part[name].float() for part in parts]).mean() for name in parts[0]])
    return accelerator.reduce(local, reduction="mean")
