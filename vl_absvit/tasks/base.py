"""What the training loop asks of a task. The loop knows nothing else about data, models or metrics."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from vl_absvit.errors import ConfigError


class Task(Protocol):
    """Data, model, losses and evaluation of one kind of run."""

    model: nn.Module
    """The bare model; the loop wraps it and passes the wrapped one to ``losses`` and ``evaluate``."""
    select_metric: str
    """The entry of ``evaluate`` that picks the best checkpoint; higher is better."""

    def steps_per_epoch(self, world_size: int) -> int:
        """Optimizer steps in one epoch; the same for every number of processes that the batch size admits."""

    def passes_per_step(self, world_size: int) -> int:
        """Forward passes per optimizer step and process; a batch that does not divide raises ``ConfigError``."""

    def train_batches(self, epoch: int, start_step: int, rank: int, world_size: int) -> Iterable[Any]:
        """This process's micro-batches of an epoch in order, from optimizer step ``start_step`` of the epoch on."""

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Already weighted scalars, each a mean over the micro-batch; the loop minimises their sum and logs each."""

    def evaluate(self, model: nn.Module) -> dict[str, float] | None:
        """Metrics on the selection split, the same in every process, which all call it; None where nothing selects."""

    def lr_of(self) -> dict[str, float]:
        """Peak learning rate per module path of ``model``; together the paths cover every trainable parameter."""

    def save(self, folder: Path) -> None:
        """Write the portable checkpoint into an existing empty folder; its weights are ``model.safetensors``."""

    def check_saved(self, folder: Path) -> None:
        """Raise ``InputError`` where the labels of a checkpoint to go on from mean something else than this task's."""


def complete_batches(num_samples: int, batch_size: int) -> int:
    """Batches in one epoch; the incomplete last one is dropped. None at all raises ``ConfigError``."""
    if num_samples < batch_size:
        raise ConfigError(f"optim.batch_size {batch_size} is more than the {num_samples} training samples")
    return num_samples // batch_size
