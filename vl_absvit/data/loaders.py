"""Which samples make a batch, and who loads them: independent of the number of processes and of accumulation steps.

W processes, A accumulation steps per optimizer step, m samples per process and forward pass: W x A x m samples a step.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vl_absvit.data.loader_processes import SteadyLoader
from vl_absvit.data.same_image import same_image_batches
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import ConfigError

log = logging.getLogger(__name__)


class BatchedDataset(Protocol):
    """What a loader needs of a data set."""

    def __len__(self) -> int: ...
    def __getitems__(self, indices: list[int]) -> list: ...
    def collate(self, samples: list) -> Any: ...


class TrainingDataset(BatchedDataset, Protocol):
    """What training needs of a data set."""

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[torch.Tensor]: ...
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
    epochs: int = 1,
    start_step: int = 0,
    num_workers: int = 0,
    samples_per_image: int = 1,
) -> DataLoader:
    """Micro-batches of one or more epochs for one process, A in a row per optimizer step, epoch after epoch.

    Loader processes live as long as the iterator, and learn of an epoch with each batch.

    Args:
        epoch: the first one.
        epochs: how many.
        samples_per_image: that stand together, at most; where it is more than 1, ``dataset`` has ``image_ids``.
        start_step: optimizer steps of the first epoch that are already done; they are passed over without loading
            anything.

    Raises:
        ConfigError: the batch does not divide, or the data set is smaller than it.
    """
    samples_per_pass(batch_size, micro_batch_size, world_size)
    if samples_per_image == 1:
        batches = partial(global_batches, len(dataset), batch_size, seed)
    else:
        batches = partial(same_image_batches, dataset.image_ids, batch_size, samples_per_image, seed)
    steps = len(batches(epoch))
    if epoch == 0 and start_step == 0:
        say_what_is_left_over(len(dataset), steps, batch_size)
    split = partial(rank_slice, rank=rank, world_size=world_size, micro_batch_size=micro_batch_size)
    order = _Order(batches, split, range(epoch, epoch + epochs), epochs * steps - start_step, start_step)
    return _loader(_Epochs(dataset), order, dataset.collate, num_workers)


class EpochRows(NamedTuple):
    """What a loader process is asked for."""

    epoch: int
    rows: list[int]  # of the data set


class _Order:
    """The micro-batches of one process, in order; an epoch's are made when it begins."""

    def __init__(
        self,
        batches: Callable[[int], list[list[int]]],
        split: Callable[[list[int]], list[list[int]]],
        epochs: range,
        steps: int,
        start_step: int,
    ) -> None:
        """
        Args:
            batches: the global batches of an epoch.
            split: the part of one that falls to the process.
            steps: in all epochs together.
            start_step: of the first epoch.
        """
        self._batches, self._split, self._epochs = batches, split, epochs
        self._steps, self._start_step = steps, start_step

    def __len__(self) -> int:
        return self._steps * len(self._split(self._batches(self._epochs[0])[0]))

    def __iter__(self) -> Iterator[EpochRows]:
        for epoch in self._epochs:
            for batch in self._batches(epoch)[self._start_step if epoch == self._epochs[0] else 0 :]:
                yield from (EpochRows(epoch, part) for part in self._split(batch))


class _Epochs(Dataset):
    """Another data set, told its epoch with every batch, wherever it is loaded."""

    def __init__(self, dataset: TrainingDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, wanted: EpochRows) -> list:
        self._dataset.set_epoch(wanted.epoch)
        return self._dataset.__getitems__(wanted.rows)


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
    return _loader(dataset, batches, dataset.collate, num_workers)


def _loader(
    dataset: Any, batches: Sequence[list[int]] | _Order, collate: Callable[[list], Any], num_workers: int
) -> DataLoader:
    return SteadyLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a number for its workers; spare the global generator.
        generator=torch.Generator().manual_seed(0),
    )
