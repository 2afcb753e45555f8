"""Batches of streamed questions: an order that is the same for every number of processes, and readers of shards.

Every batch takes the same number of questions of each shard, in the order of shards. A process therefore reads only the
shards of its part of the batch, and a loader process only some of these.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.utils._pytree import tree_map
from torch.utils.data import IterableDataset, get_worker_info

from vl_absvit.data.ahead import ahead
from vl_absvit.data.collate import VQABatch
from vl_absvit.data.loader_processes import SteadyLoader
from vl_absvit.data.loaders import rank_slice, say_what_is_left_over
from vl_absvit.data.stream_folder import Question, Shard
from vl_absvit.data.streaming import Part, StreamedQuestions
from vl_absvit.errors import ConfigError

log = logging.getLogger(__name__)

_READY = 2
"""Micro-batches that are put together in advance if there are loader processes."""
_REACH = 2
"""A row group is mixed with this number of groups before and after it. Memory holds about 2 * _REACH + 1 of them."""


def questions_per_shard(num_shards: int, batch_size: int) -> int:
    """Number of questions that a batch takes of every shard.

    Raises:
        ConfigError: the batch does not divide; the message names sizes that do.
    """
    if batch_size % num_shards:
        below, above = batch_size // num_shards * num_shards, (batch_size // num_shards + 1) * num_shards
        fewer = max(number for number in range(1, num_shards) if batch_size % number == 0)
        raise ConfigError(
            f"optim.batch_size {batch_size} does not divide over the {num_shards} shards of data.stream; "
            f"{f'{below} or {above}' if below else above} would fit, or shards written with --shards {fewer}"
        )
    return batch_size // num_shards


def shard_order(questions: Sequence[int], seed: int, epoch: int, shard: int) -> np.ndarray:
    """The numbers of a shard's questions in the order of an epoch, which depends on the arguments alone.

    Row groups take turns in a random order. A question falls at random into one of the turns around its group's turn.
    Each row group is therefore read once, and a few, which differ in every epoch, are open at any time.

    Args:
        questions: number of questions in each row group.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch, shard]))
    turn = generator.permutation(len(questions))  # of each row group
    begin, end = np.maximum(turn - _REACH, 0), np.minimum(turn + _REACH + 1, len(turn))
    times = begin.repeat(questions) + (end - begin).repeat(questions) * generator.random(sum(questions))
    return np.argsort(times, kind="stable")


class _Reader:
    """Questions of one shard in an epoch's order. Holds a row group from its first question to its last."""

    def __init__(self, shard: Shard, order: np.ndarray) -> None:
        self._shard = shard
        first = np.cumsum([0, *shard.questions])
        self._group = np.searchsorted(first, order, side="right") - 1
        self._row = order - first[self._group]
        self._last = np.zeros(len(shard.questions), dtype=int)
        np.maximum.at(self._last, self._group, np.arange(len(order)))
        self._open: dict[int, list[Question]] = {}

    def take(self, places: Sequence[int], end: int) -> list[Question]:
        """The questions at some places of the order. Later calls ask only for places from ``end`` on."""
        for group in dict.fromkeys(self._group[places].tolist()):
            if group not in self._open:
                self._open[group] = self._shard.read(group)
        taken = [self._open[self._group[place]][self._row[place]] for place in places]
        self._open = {group: read for group, read in self._open.items() if self._last[group] >= end}
        return taken


class _Parts(IterableDataset):
    """A process's parts of batches. For every batch, each loader process makes one part of its own shards."""

    def __init__(
        self,
        data: StreamedQuestions,
        offsets: Mapping[int, list[int]],
        per_shard: int,
        seed: int,
        steps_of: Mapping[int, range],
    ) -> None:
        """
        Args:
            offsets: shard -> this process's share of the ``per_shard`` questions that a batch takes, by number.
            steps_of: epoch -> numbers of its batches.
        """
        self._data, self._offsets, self._per_shard = data, offsets, per_shard
        self._seed, self._steps_of = seed, steps_of

    def __iter__(self) -> Iterator[Part]:
        worker = get_worker_info()
        shards = list(self._offsets) if worker is None else list(self._offsets)[worker.id :: worker.num_workers]
        for epoch, steps in self._steps_of.items():
            readers = {}
            for shard in shards:
                opened = self._data.shards[shard]
                readers[shard] = _Reader(opened, shard_order(opened.questions, self._seed, epoch, shard))
            for step in steps:
                yield self._data.load(self._questions(readers, step), epoch)

    def _questions(self, readers: Mapping[int, _Reader], step: int) -> dict[int, Question]:
        """A batch's questions by their places in it."""
        start, end = step * self._per_shard, (step + 1) * self._per_shard
        questions: dict[int, Question] = {}
        for shard, reader in readers.items():
            offsets = self._offsets[shard]
            taken = reader.take([start + offset for offset in offsets], end)
            places = [shard * self._per_shard + offset for offset in offsets]
            questions |= dict(zip(places, taken, strict=True))
        return questions


class StreamLoader:
    """Micro-batches of epochs for one process, as ``loaders.training_loader`` makes them of a table.

    Each loader process reads and decodes its own shards. A thread of this process puts their parts together.
    """

    def __init__(
        self,
        data: StreamedQuestions,
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
    ) -> None:
        """
        Args:
            epoch: the first epoch.
            epochs: number of epochs.
            start_step: finished optimizer steps of the first epoch; row groups of which no question is left are not
                read.

        Raises:
            ConfigError: the batch does not divide, or a shard has fewer questions than a batch takes of it.
        """
        per_shard = questions_per_shard(len(data.shards), batch_size)
        steps = len(data) // batch_size
        if not steps:
            raise ConfigError(f"optim.batch_size {batch_size} is more than the {len(data)} training samples")
        self._data = data
        self._micro_batches = rank_slice(list(range(batch_size)), rank, world_size, micro_batch_size)
        steps_of = {number: range(steps) for number in range(epoch, epoch + epochs)} | {epoch: range(start_step, steps)}
        self._steps = sum(map(len, steps_of.values()))
        offsets: dict[int, list[int]] = {}
        for place in sorted(sum(self._micro_batches, [])):
            offsets.setdefault(place // per_shard, []).append(place % per_shard)
        if epoch == 0 and start_step == 0:
            self._say(batch_size, steps, any(len(of_shard) < per_shard for of_shard in offsets.values()))
        self._workers = min(num_workers, len(offsets))
        self._parts = SteadyLoader(
            _Parts(data, offsets, per_shard, seed, steps_of),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            # A loader draws a seed for its workers. It must not come from the global generator.
            generator=torch.Generator().manual_seed(0),
        )

    def __len__(self) -> int:
        return self._steps * len(self._micro_batches)

    def __iter__(self) -> Iterator[VQABatch]:
        parts = iter(self._parts)
        return ahead(self._batches(parts), _READY) if self._workers else self._batches(parts)

    def _batches(self, parts: Iterator[Part]) -> Iterator[VQABatch]:
        is_pinned = torch.cuda.is_available()
        for _ in range(self._steps):
            # Loader processes take turns, so that the next parts are one of each.
            samples = {place: sample for _ in range(max(self._workers, 1)) for place, sample in next(parts).samples()}
            for places in self._micro_batches:
                batch = self._data.collate([samples[place] for place in places])
                yield tree_map(torch.Tensor.pin_memory, batch) if is_pinned else batch

    def _say(self, batch_size: int, steps: int, shares: bool) -> None:
        say_what_is_left_over(sum(sum(shard.questions) for shard in self._data.shards), steps, batch_size)
        if shares:
            log.info(
                "some of the %d shards are read by several processes; %s",
                len(self._data.shards),
                "a number of shards that processes x forward passes divides avoids it",
            )


def _as_it_is(part: Part) -> Part:
    return part
