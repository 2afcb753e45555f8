"""Batches of samples, the same for every number of processes and of accumulation steps, and their loaders.

W processes, A accumulation steps per optimizer step, m samples per process and forward pass: W x A x m samples a step.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vl_absvit.data.loader_processes import SteadyLoader
from vl_absvit.data.same_image import same_image_batches
from vl_absvit.data.transforms import ImageTransform
from vl_absvit.errors import ConfigError

log = logging.getLogger(__name__)


Batches = list[list[int]] | np.ndarray
"""The global batches of an epoch; of millions of samples an array, (steps, batch size), for it takes less memory."""


class BatchedDataset(Protocol):
    """A data set that can be loaded in batches."""

    def __len__(self) -> int: ...
    def __getitems__(self, indices: list[int]) -> list: ...
    def collate(self, samples: list) -> Any: ...


class TrainingDataset(BatchedDataset, Protocol):
    """A data set for training."""

    def sample_images(self, number: int, seed: int, transform: ImageTransform) -> Iterator[torch.Tensor]: ...
    def set_epoch(self, epoch: int) -> None: ...


@runtime_checkable
class WithImageIds(Protocol):
    """A data set that names its images."""

    image_ids: np.ndarray  # of each sample, or of all images


@runtime_checkable
class WithOrder(Protocol):
    """A data set whose batches have an order of its own."""

    def batches(self, batch_size: int, epoch: int) -> np.ndarray: ...  # (steps, batch_size)


@runtime_checkable
class Repeating(Protocol):
    """A data set that has every sample several times, each time drawn anew: copy c of sample i is c * len + i."""

    repeats: int


def global_batches(num_samples: int, batch_size: int, seed: int, epoch: int, repeats: int = 1) -> list[list[int]]:
    """The complete batches of one training epoch, in an order that depends only on ``seed`` and ``epoch``.

    Args:
        repeats: how many copies of a sample stand in a row. An epoch keeps its length and shows as many times fewer
            samples, as DeiT's repeated augmentation (Hoffer et al., CVPR 2020, arXiv:1901.09335). A batch begins with
            all of its first copies, so that passes and processes of a part of it have different samples.

    Returns:
        Copy c of sample i is c * ``num_samples`` + i.

    Raises:
        ConfigError: there are fewer samples than one batch holds.
    """
    if num_samples < batch_size:
        raise ConfigError(f"optim.batch_size {batch_size} is more than the {num_samples} training samples")
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(num_samples)
    complete = num_samples // batch_size
    place = np.arange(complete * batch_size)
    batches = (order[place // repeats] + num_samples * (place % repeats)).reshape(complete, batch_size)
    by_copy = (batches // num_samples).argsort(axis=1, kind="stable")
    return np.take_along_axis(batches, by_copy, axis=1).tolist()


def samples_per_pass(batch_size: int, micro_batch_size: int | None, world_size: int) -> int:
    """Samples per process and forward pass, m. None means one forward pass per optimizer step.

    Raises:
        ConfigError: the batch does not divide; the message names sizes that do.
    """
    unit = world_size * (micro_batch_size or 1)
    if batch_size % unit:
        below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
        samples = f" x {micro_batch_size} samples (optim.micro_batch_size)" if micro_batch_size else ""
        fitting = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"optim.batch_size {batch_size} does not divide into {world_size} processes{samples}; {fitting} would fit"
        )
    return micro_batch_size or batch_size // world_size


def rank_slice(batch: list[int], rank: int, world_size: int, micro_batch_size: int | None) -> list[list[int]]:
    """The part of a global batch for process ``rank``: A micro-batches of m samples.

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
    """Micro-batches of one or more epochs for one process, epoch after epoch; A in a row make an optimizer step.

    Loader processes live as long as the iterator. Each batch tells them its epoch.

    Args:
        epoch: the first epoch.
        epochs: number of epochs.
        samples_per_image: most samples of one image that stand together; above 1, ``dataset`` has ``image_ids``.
        start_step: finished optimizer steps of the first epoch; their batches are skipped without loading.

    Raises:
        ConfigError: the batch does not divide, or the data set is smaller than a batch.
    """
    samples_per_pass(batch_size, micro_batch_size, world_size)
    if isinstance(dataset, WithOrder):
        batches: Callable[[int], Batches] = partial(dataset.batches, batch_size)
    elif samples_per_image == 1:
        repeats = dataset.repeats if isinstance(dataset, Repeating) else 1
        batches = partial(global_batches, len(dataset), batch_size, seed, repeats=repeats)
    else:
        assert isinstance(dataset, WithImageIds), "samples of one image stand together where images have ids"
        batches = partial(same_image_batches, dataset.image_ids, batch_size, samples_per_image, seed)
    steps = len(batches(epoch))
    if epoch == 0 and start_step == 0:
        say_what_is_left_over(len(dataset), steps, batch_size)
    split = partial(rank_slice, rank=rank, world_size=world_size, micro_batch_size=micro_batch_size)
    order = _Order(batches, split, range(epoch, epoch + epochs), epochs * steps - start_step, start_step)
    return _loader(_Epochs(dataset), order, dataset.collate, num_workers)


class EpochRows(NamedTuple):
    """A micro-batch to load."""

    epoch: int
    rows: list[int]  # of the data set


class _Order:
    """The micro-batches of one process, in order. Those of an epoch are made when it begins."""

    def __init__(
        self,
        batches: Callable[[int], Batches],
        split: Callable[[list[int]], list[list[int]]],
        epochs: range,
        steps: int,
        start_step: int,
    ) -> None:
        """
        Args:
            batches: makes the global batches of an epoch.
            split: takes the process's part of a global batch.
            steps: optimizer steps of all epochs together.
            start_step: finished optimizer steps of the first epoch.
        """
        self._batches, self._split, self._epochs = batches, split, epochs
        self._steps, self._start_step = steps, start_step

    def __len__(self) -> int:
        return self._steps * len(self._split(_as_list(self._batches(self._epochs[0])[0])))

    def __iter__(self) -> Iterator[EpochRows]:
        for epoch in self._epochs:
            for batch in self._batches(epoch)[self._start_step if epoch == self._epochs[0] else 0 :]:
                yield from (EpochRows(epoch, part) for part in self._split(_as_list(batch)))


def _as_list(batch: list[int] | np.ndarray) -> list[int]:
    return batch if isinstance(batch, list) else batch.tolist()


class _Epochs(Dataset):
    """Another data set whose epoch is set with every batch, in every loader process."""

    def __init__(self, dataset: TrainingDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, wanted: EpochRows) -> list:
        self._dataset.set_epoch(wanted.epoch)
        return self._dataset.__getitems__(wanted.rows)


def say_what_is_left_over(num_samples: int, batches: int, batch_size: int) -> None:
    """Log the number of samples that no batch of an epoch holds, if there are any."""
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
    """All samples in order; process r loads the r-th contiguous part. Parts differ by one sample at most.

    Args:
        batch_size: samples per process and forward pass.
    """
    rows = np.array_split(np.arange(len(dataset)), world_size)[rank].tolist()
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return batch_loader(dataset, batches, num_workers)


def batch_loader(dataset: BatchedDataset, batches: list[list[int]], num_workers: int) -> DataLoader:
    """The given batches in their order. A batch is a list of rows of ``dataset``.

    No process is started that would have nothing to load, and none for a single batch, which nobody computes beside.
    """
    useful = min(num_workers, len(batches)) if len(batches) > 1 else 0
    return _loader(dataset, batches, dataset.collate, useful)


def _loader(
    dataset: Any, batches: Sequence[list[int]] | _Order, collate: Callable[[list], Any], num_workers: int
) -> DataLoader:
    return SteadyLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        # A loader draws a seed for its workers. It must not come from the global generator.
        generator=torch.Generator().manual_seed(0),
    )
