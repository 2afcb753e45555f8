"""Batches are the same for every number of processes, accumulation steps and loader processes."""

import multiprocessing
import os
import signal

import pytest
import torch

from vl_absvit.data.loaders import (
    batch_loader,
    evaluation_loader,
    global_batches,
    rank_slice,
    samples_per_pass,
    training_loader,
)
from vl_absvit.errors import ConfigError


class Numbers:
    """A data set whose samples are their own indices."""

    def __init__(self, size):
        self.size, self.epochs, self.loaded = size, [], []

    def __len__(self):
        return self.size

    def __getitems__(self, indices):
        self.loaded += indices
        return list(indices)

    def collate(self, samples):
        return torch.tensor(samples)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def epoch_of(dataset, rank=0, world_size=1, micro=None, epoch=0, start_step=0, workers=0, batch_size=12):
    loader = training_loader(
        dataset, batch_size=batch_size, micro_batch_size=micro, rank=rank, world_size=world_size, seed=3, epoch=epoch,
        start_step=start_step, num_workers=workers,
    )  # fmt: skip
    return [batch.tolist() for batch in loader]


def test_an_epoch_holds_every_sample_at_most_once_and_drops_the_incomplete_batch():
    batches = global_batches(50, 12, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [12] * 4
    seen = sum(batches, [])
    assert len(set(seen)) == 48 and set(seen) <= set(range(50))


def test_order_depends_on_seed_and_epoch_alone():
    assert global_batches(40, 8, 1, 2) == global_batches(40, 8, 1, 2)
    assert len({str(global_batches(40, 8, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_copies_stand_in_a_row_and_a_batch_begins_with_its_first_ones():
    """As by hand: the order, every sample thrice, cut into batches, in each of which the sort by copy is stable."""
    order = sum(global_batches(50, 10, seed=0, epoch=1), [])
    row = [sample + 50 * copy for sample in order for copy in range(3)]
    batches = global_batches(50, 10, seed=0, epoch=1, repeats=3)
    assert batches == [sorted(row[start : start + 10], key=lambda number: number // 50) for start in range(0, 50, 10)]
    assert len({number % 50 for number in sum(batches, [])}) == 17
    for batch in global_batches(50, 12, seed=0, epoch=0, repeats=3):
        for third in (batch[:4], batch[4:8], batch[8:]):
            assert sorted(number % 50 for number in third) == sorted({number % 50 for number in batch})


@pytest.mark.parametrize(("world_size", "micro"), [(1, 3), (2, 3), (3, None), (4, 1), (2, 2), (3, 4)])
def test_ranks_and_accumulation_steps_partition_the_global_batch(world_size, micro):
    expected = global_batches(50, 12, seed=3, epoch=0)
    per_rank = [epoch_of(Numbers(50), rank, world_size, micro) for rank in range(world_size)]
    size = micro or 12 // world_size
    assert all(len(batch) == size for batches in per_rank for batch in batches)
    passes = 12 // (world_size * size)
    for step, batch in enumerate(expected):
        parts = [per_rank[rank][step * passes + a] for a in range(passes) for rank in range(world_size)]
        assert sum(parts, []) == batch


def test_rank_slice_by_hand():
    assert rank_slice(list(range(8)), rank=1, world_size=2, micro_batch_size=2) == [[2, 3], [6, 7]]
    assert rank_slice(list(range(8)), rank=1, world_size=2, micro_batch_size=None) == [[4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("batch_size", "micro", "world_size", "message"),
    [
        (512, 64, 3, "512 does not divide into 3 processes x 64 samples .*; 384 or 576 would fit"),
        (10, None, 4, "10 does not divide into 4 processes; 8 or 12 would fit"),
        (4, 8, 1, "4 does not divide into 1 processes x 8 samples .*; 8 would fit"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_with_numbers_that_fit(batch_size, micro, world_size, message):
    with pytest.raises(ConfigError, match=message):
        samples_per_pass(batch_size, micro, world_size)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="optim.batch_size 12 is more than the 11 training samples"):
        epoch_of(Numbers(11))


def test_resuming_passes_over_the_first_steps_without_loading_them():
    dataset = Numbers(50)
    assert epoch_of(dataset, micro=3, start_step=2) == epoch_of(Numbers(50), micro=3)[8:]
    assert len(dataset.loaded) == 24


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_several_epochs_gives_one_after_the_other(workers):
    class Epochs(Numbers):
        def __getitems__(self, indices):
            return [[self.epochs[-1], index, os.getpid()] for index in indices]

    loader = training_loader(
        Epochs(50), batch_size=12, micro_batch_size=6, rank=0, world_size=1, seed=3, epoch=1, epochs=3, start_step=2,
        num_workers=workers,
    )  # fmt: skip
    batches = [batch.tolist() for batch in loader]
    assert len(batches) == len(loader) == 2 * (2 + 4 + 4)
    expected = [(epoch, batch) for epoch in (1, 2, 3) for batch in epoch_of(Numbers(50), micro=6, epoch=epoch)][4:]
    assert [([each[1] for each in batch], batch[0][0]) for batch in batches] == [(b, epoch) for epoch, b in expected]
    assert len({each[2] for batch in batches for each in batch}) == max(workers, 1), "processes live through epochs"


@pytest.mark.parametrize(("batches", "expected"), [(0, 0), (1, 0), (2, 2), (3, 3), (9, 3)])
def test_no_loader_process_is_started_for_nothing(batches, expected):
    loader = batch_loader(Numbers(9), [[row] for row in range(batches)], num_workers=3)
    assert loader.num_workers == expected


@pytest.fixture
def loading():
    """Batches of two loader processes that have just been started, and these."""
    loader = training_loader(
        Numbers(60), batch_size=6, micro_batch_size=None, rank=0, world_size=1, seed=3, epoch=0, num_workers=2
    )
    others, batches = set(multiprocessing.active_children()), iter(loader)
    processes = set(multiprocessing.active_children()) - others
    assert len(processes) == 2
    return batches, processes


def signalled_from_elsewhere(pid: int, number: int) -> None:
    """Signal a process from another one than this."""
    child = os.fork()
    if child == 0:
        os.kill(pid, number)
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("taken", [0, 2])
def test_loader_processes_outlive_the_signals_that_a_launcher_sends_to_all(loading, taken):
    batches, processes = loading
    seen = [next(batches).tolist() for _ in range(taken)]
    for process in processes:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signalled_from_elsewhere(process.pid, number)
    seen += [batch.tolist() for batch in batches]
    assert seen == epoch_of(Numbers(60), batch_size=6)


def test_the_main_process_can_end_its_loader_processes(loading):
    # Python does so, and waits for them, where the main process ends with an error.
    batches, processes = loading
    next(batches)
    for process in processes:
        process.terminate()
        process.join(30)
        assert process.exitcode == 0


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    epoch_of(Numbers(24))
    assert torch.rand(()) == expected


@pytest.mark.parametrize(("size", "world_size"), [(10, 1), (10, 3), (2, 3), (12, 4)])
def test_evaluation_sees_every_sample_exactly_once_and_in_order(size, world_size):
    parts = [evaluation_loader(Numbers(size), batch_size=3, rank=r, world_size=world_size) for r in range(world_size)]
    assert sum((batch.tolist() for part in parts for batch in part), []) == list(range(size))
    sizes = [sum(len(batch) for batch in part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
