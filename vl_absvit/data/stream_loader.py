"""Batches of streamed questions: an order that every number of processes shares, and who reads which shard.

Every batch takes the same number of questions of each shard, in the order of shards. So a process reads only the shards
that its part of the batch comes from, and each of its loader processes only some of these.
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
"""Micro-batches that are put together before they are asked for, where there are loader processes."""
_REACH = 2
"""A shard's row groups are mixed with so many before and after them: memory holds about twice as many and one more."""


def questions_per_shard(num_shards: int, batch_size: int) -> int:
    """How many questions of every shard a batch takes.

    Raises:
        ConfigError: the batch does not divide; the message names sizes that would.
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
    """The questions of a shard, by number, in the order of an epoch; decided by the arguments alone.

    The row groups take turns in a random order, and each question falls at random into the turns around its group's.
    So a few row groups are open at any time, always others together, and each is read once.

    Args:
        questions: number of questions in each row group.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch, shard]))
    turn = generator.permutation(len(questions))  # of each row group
    begin, end = np.maximum(turn - _REACH, 0), np.minimum(turn + _REACH + 1, len(turn))
    when = begin.repeat(questions) + (end - begin).repeat(questions) * generator.random(sum(questions))
    return np.argsort(when, kind="stable")


class _Reader:
    """Questions of one shard in an epoch's order; holds row groups from their first question to their last."""

    def __init__(self, shard: Shard, order: np.ndarray) -> None:
        self._shard = shard
        first = np.cumsum([0, *shard.questions])
        self._group = np.searchsorted(first, order, side="right") - 1
        self._row = order - first[self._group]
        self._last = np.zeros(len(shard.questions), dtype=int)
        np.maximum.at(self._last, self._group, np.arange(len(order)))
        self._open: dict[int, list[Question]] = {}

    def take(self, places: Sequence[int], end: int) -> list[Question]:
        """The questions at some places of the order, after which nothing before ``end`` is asked for."""
        for group in dict.fromkeys(self._group[places].tolist()):
            if group not in self._open:
                self._open[group] = self._shard.read(group)
        taken = [self._open[self._group[place]][self._row[place]] for place in places]
        self._open = {group: read for group, read in self._open.items() if self._last[group] >= end}
        return taken


class _Parts(IterableDataset):
    """Parts of an epoch's batches for one process: one per batch from each loader process, which has its own shards."""

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
            offsets: shard -> which of the ``per_shard`` questions that a batch takes of it fall to this process.
            steps_of: epoch -> its batches, by number.
        """
        self._data, self._offsets, self._per_shard = data, offsets, per_shard
        self._seed, self._steps_of = seed, steps_of

    def __iter__(self) -> Iterator[Part]:
        worker = get_worker_info()
        mine = list(self._offsets) if worker is None else list(self._offsets)[worker.id :: worker.num_workers]
        for epoch, steps in self._steps_of.items():
            readers = {}
            for shard in mine:
                opened = self._data.shards[shard]
                readers[shard] = _Reader(opened, shard_order(opened.questions, self._seed, epoch, shard))
            for step in steps:
                yield self._data.load(self._questions(readers, step), epoch)

    def _questions(self, readers: Mapping[int, _Reader], step: int) -> dict[int, Question]:
        """Those of a batch, by place in it."""
        start, end = step * self._per_shard, (step + 1) * self._per_shard
        questions = {}
        for shard, reader in readers.items():
            offsets = self._offsets[shard]
            taken = reader.take([start + offset for offset in offsets], end)
            places = [shard * self._per_shard + offset for offset in offsets]
            questions |= dict(zip(places, taken, strict=True))
        return questions


class StreamLoader:
    """Micro-batches of epochs for one process, as ``loaders.training_loader`` gives them of a table.

    Loader processes read and decode, each from shards of its own; a thread of this process puts their parts together.
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
            epoch: the first one.
            epochs: how many.
            start_step: optimizer steps of the first epoch that are already done; only row groups that reach beyond them
                are read.

        Raises:
            ConfigError: the batch does not divide, or a shard has less than a batch takes of it.
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
            # A loader draws a number for its workers; spare the global generator.
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
            # They come in the order of loader processes, one of each.
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
