"""Training steps of both sides on one model: batch, forward pass with losses, backward pass, optimizer.

In bf16 the weights stay fp32 and the forward pass runs under autocast, as in a run. Before anything is timed, losses
and gradients are compared without dropout; what is timed drops as configured.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn

from benchmarks.agreement import check_training, total
from benchmarks.contest import COMPILED, NAIVE, OPTIMIZER, OURS, Case
from benchmarks.measure import Stage
from benchmarks.memory import kept_for_backward
from vl_absvit.config import DataConfig, Precision, RunConfig
from vl_absvit.tasks.base import Task
from vl_absvit.training.optim import build_optimizer, param_groups


def nowhere(precision: Precision = "fp32") -> dict[str, Any]:
    """What a run's config asks for and a benchmark has not; the precision is that of the forward pass."""
    return {"data": DataConfig(root="none"), "run": RunConfig(output="none", precision=precision)}


class Trainee(NamedTuple):
    """How one side makes a batch and computes its loss terms."""

    make_batch: Callable[[], Any]
    losses: Callable[[Any], Mapping[str, Tensor]]

    def terms(self) -> Mapping[str, Tensor]:
        """Both, one after the other."""
        return self.losses(self.make_batch())


def in_precision(forward: Callable, precision: str, device: torch.device) -> Callable:
    """The naive side's forward pass, as Accelerate wraps it: in bf16 under autocast, with outputs in fp32."""
    if precision == "fp32":
        return forward
    return convert_outputs_to_fp32(torch.autocast(device.type, torch.bfloat16)(forward))


def make_optimizers(task: Task, sides: Iterable[str]) -> dict[str, torch.optim.Optimizer]:
    """For every side one: for the naive side AdamW one parameter at a time, for the others as in a run."""
    config = task.config.optim
    groups = param_groups(task.model, task.lr_of(), config.weight_decay)
    naive = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, foreach=False)
    ours = build_optimizer(task.model, task.lr_of(), config)
    return {side: naive if side == NAIVE else ours for side in sides}


def training_case(
    name: str,
    questions: int,
    task: Task,
    trainees: Mapping[str, Trainee],
    optimizers: Mapping[str, torch.optim.Optimizer],
    precision: str,
) -> Case:
    """Steps of all sides, compared with each other.

    Args:
        name: of the case.
        questions: texts about each image.
        trainees: naive, ours, and compiled if asked for.

    Raises:
        RuntimeError: losses or gradients differ.
    """
    model = task.model.train()
    agreement = check_training(model, trainees[NAIVE].terms, trainees[OURS].terms, precision)
    kept = {side: kept_for_backward(trainee.terms, model.parameters()) for side, trainee in trainees.items()}
    steps = {
        side: make_step(trainee, model, optimizers[side], task.config.optim.max_grad_norm, one_by_one=side == NAIVE)
        for side, trainee in trainees.items()
    }
    if COMPILED in trainees:
        check_training(model, trainees[COMPILED].terms, trainees[OURS].terms, precision)
        steps[COMPILED](lambda part: nullcontext())  # compiles outside of what is timed
    return Case(name, questions, steps, agreement, kept)


def make_step(
    trainee: Trainee, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float, *, one_by_one: bool
) -> Callable[[Stage], None]:
    """One side's training step.

    Args:
        max_norm: that the gradient is clipped to.
        one_by_one: clip one parameter at a time.
    """

    def step(stage: Stage) -> None:
        with stage("batch"):
            batch = trainee.make_batch()
        with stage("forward"):
            loss = total(trainee.losses(batch))
        with stage("backward"):
            loss.backward()
        with stage(OPTIMIZER):
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm, foreach=False if one_by_one else None)
            optimizer.step()
            optimizer.zero_grad()

    return step
