"""Which samples make a batch, and who loads them: independent of the number of processes and of accumulation steps.

W processes, A accumulation steps per optimizer step, m samples per process and forward pass: W x A x m samples a step.
"""

import logging
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from vl_absvit.data.loader_processes import SteadyLoader
from vl_absvit.data.same_image import same_image_batches
from vl_absvit.errors import ConfigError

log = logging.getLogger(__name__)


class BatchedDataset(Protocol):
    """What a loader needs of a data set."""

    def __len__(self) -> int: ...
    def __getitems__(self, indices: list[int]) -> list: ...
    def collate(self, samples: list) -> Any: ...


class TrainingDataset(BatchedDataset, Protocol):
    """What training needs of a data set."""

    def set_epoch(self, epoch: int) -> None: ...


def global_batches(num_samples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one training epoch, in an order that depends on ``seed`` and ``epoch`` alone; no incomplete one.

    Raises:
        ConfigError: there are fewer samples than one batch holds.
    """
    if num_samples < batch_size:
        raise ConfigError(f"optim.batch_size {batch_size} is more than the {num_samples} training samples")
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_samples)
    complete = num_samples // batch_size
    return order[: complete * batch_size].reshape(complete, batch_size).tolist()


def samples_per_pass(batch_size: int, micro_batch_size: int | None, world_size: int) -> int:
    """Samples per process and forward pass, m; None asks for one forward pass per optimizer step.

    Raises:
        ConfigError: the batch does not divide; the message names sizes that would.
    """
    unit = world_size * (micro_batch_size or 1)
    if batch_size % unit:
        below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
        each = f" x {micro_batch_size} samples (optim.micro_batch_size)" if micro_batch_size else ""
        fitting = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"optim.batch_size {batch_size} does not divide into {world_size} processes{each}; {fitting} would fit"
        )
    return micro_batch_size or batch_size // world_size


def rank_slice(batch: list[int], rank: int, world_size: int, micro_batch_size: int | None) -> list[list[int]]:
    """The part of one global batch that falls to ``rank``: A micro-batches of m samples.

    Accumulation step a is the a-th contiguous part of the batch, and process r takes the r-th contiguous part of that.
    """
    size = samples_per_pass(len(batch), micro_batch_size, world_size)
    starts = range(rank * size, len(batch), world_size * size)
    return [batch[start : start + size] for start in starts]


def training_loader(
    dataset: TrainingDataset,
    *,
    batch_size: int,
    micro_batch_size: int | None,
    rank: int,
    world_size: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    num_workers: int = 0,
    samples_per_image: int = 1,
) -> DataLoader:
    """Micro-batches of one epoch for one process, A in a row per optimizer step.

    Args:
        samples_per_image: that stand together, at most; where it is more than 1, ``dataset`` has ``image_ids``.
        start_step: optimizer steps of this epoch that are already done; they are passed over without loading anything.

    Raises:
        ConfigError: the batch does not divide, or the data set is smaller than it.
    """
    samples_per_pass(batch_size, micro_batch_size, world_size)
    if samples_per_image == 1:
        batches = global_batches(len(dataset), batch_size, seed, epoch)
    else:
        batches = same_image_batches(dataset.image_ids, batch_size, samples_per_image, seed, epoch)
    if epoch == 0 and start_step == 0:
        say_what_is_left_over(len(dataset), len(batches), batch_size)
    dataset.set_epoch(epoch)
    mine = [part for batch in batches[start_step:] for part in rank_slice(batch, rank, world_size, micro_batch_size)]
    return batch_loader(dataset, mine, num_workers)


def say_what_is_left_over(num_samples: int, batches: int, batch_size: int) -> None:
    """Log how many samples no batch of an epoch holds, if there are any."""
    if left_over := num_samples - batches * batch_size:
        log.info(
            "%d samples make %d batches of %d; the %d left over in each epoch are dropped, others each time",
            num_samples,
            batches,
            batch_size,
            left_over,
        )


def evaluation_loader(
    dataset: BatchedDataset, *, batch_size: int, rank: int, world_size: int, num_workers: int = 0
) -> DataLoader:
    """All samples in order, the r-th contiguous part for process r. None is padded or doubled; parts may differ by one.

    Args:
        batch_size: samples per process and forward pass.
    """
    mine = np.array_split(np.arange(len(dataset)), world_size)[rank].tolist()
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return batch_loader(dataset, batches, num_workers)


def batch_loader(dataset: BatchedDataset, batches: list[list[int]], num_workers: int) -> DataLoader:
    """The named batches, each a list of rows of ``dataset``, in their order."""
    return SteadyLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=dataset.collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a number for its workers; spare the global generator.
        generator=torch.Generator().manual_seed(0),
    )
