"""One training step of a config on made-up inputs: the model, batches, the task's own losses.

Nothing is read and nothing is fetched. On fake tensors the step is counted, on real ones it can be measured.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vl_absvit.config import TaskConfig
from vl_absvit.models.looks import VisionModel
from vl_absvit.tasks.base import Task, freeze_zero_rates
from vl_absvit.tasks.facts import Facts
from vl_absvit.tasks.registry import task_of


def find_facts(config: TaskConfig, samples: int | None = None) -> Facts:
    """Sizes on which memory and time depend, see ``Task.find_facts``; ``samples`` replace those in the data."""
    facts = task_of(config).find_facts(config)
    return facts if samples is None else facts._replace(samples=samples)


def build_model(config: TaskConfig, facts: Facts) -> VisionModel:
    """The model that a run of ``config`` trains, with random weights, in training mode."""
    model = task_of(config).random_model(config, facts)
    model.vision.set_grad_checkpointing(config.vision.gradient_checkpointing)
    freeze_zero_rates(config, model, bare_task(config, facts, model).lr_of())
    return model.train()


def make_batch(config: TaskConfig, facts: Facts, samples: int, device: torch.device) -> Any:
    """A batch as large as one can be, see ``Task.made_up_batch``."""
    with torch.device(device):
        return task_of(config).made_up_batch(config, facts, samples)


def bare_task(config: TaskConfig, facts: Facts, model: Any) -> Task:
    """The task of a run without its data: enough for ``losses``, ``look_ahead`` and ``lr_of``."""
    return task_of(config).without_data(config, model, facts)


def look_ahead(config: TaskConfig, facts: Facts, model: Any, batches: Sequence[Any]) -> Sequence[Any]:
    """Facts that the passes of a step need about each other; ``model`` has the parts that are used."""
    with torch.no_grad():
        return bare_task(config, facts, model).look_ahead(batches, range(len(batches)))


def run_pass(config: TaskConfig, facts: Facts, model: nn.Module, batch: Any, ahead: Any = None) -> None:
    """Forward and backward pass of one micro-batch; gradients are added to those that are there."""
    terms = bare_task(config, facts, model).losses(model, batch, ahead)
    torch.stack(list(terms.values())).sum().backward()
