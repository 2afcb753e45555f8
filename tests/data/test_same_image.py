"""Batches of samples that share images: every sample once, whatever the number of processes, and no favourites."""

import numpy as np
import pytest

from benchmarks.samples import Workload, questions_about
from benchmarks.synthetic import PAD
from benchmarks.training import nowhere
from tests.benchmarks.test_naive import ANSWERS
from vl_absvit.config import DataConfig, OptimConfig, RunConfig
from vl_absvit.data.collate import collate_vqa
from vl_absvit.data.loaders import rank_slice
from vl_absvit.data.same_image import same_image_batches
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.vqa import VQAConfig

# Images of one to nine samples, their samples not next to each other.
IMAGE_IDS = np.random.default_rng(0).permutation(np.repeat(np.arange(40), np.arange(40) % 9 + 1))


def images_in(rows: list[int]) -> int:
    return len(set(IMAGE_IDS[rows].tolist()))


@pytest.mark.parametrize("per_image", [1, 2, 4, 8, 16])
def test_an_epoch_holds_every_sample_at_most_once_and_drops_the_incomplete_batch(per_image):
    batches = same_image_batches(IMAGE_IDS, 16, per_image, seed=0, epoch=0)
    seen = sum(batches, [])
    assert [len(batch) for batch in batches] == [16] * (len(IMAGE_IDS) // 16)
    assert len(set(seen)) == len(seen) and set(seen) <= set(range(len(IMAGE_IDS)))


def test_order_depends_on_seed_and_epoch_alone():
    def batches(seed, epoch):
        return same_image_batches(IMAGE_IDS, 8, 4, seed, epoch)

    np.random.seed(3)
    assert batches(1, 2) == batches(1, 2)
    assert len({str(batches(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_slots_by_hand():
    ids = np.array([7] * 4 + [8] * 3 + [9])  # one slot of image 7, one of images 8 and 9
    (batch,) = same_image_batches(ids, 8, 4, seed=0, epoch=0)
    assert {frozenset(batch[:4]), frozenset(batch[4:])} == {frozenset(range(4)), frozenset(range(4, 8))}


def test_groups_that_fit_nowhere_are_divided():
    ids = np.repeat([1, 2, 3, 4], 3)  # twelve samples in groups of three, slots of four
    batches = same_image_batches(ids, 4, 4, seed=0, epoch=0)
    assert sorted(sum(batches, [])) == list(range(12))
    assert sum(len(set(ids[batch].tolist())) for batch in batches) == 6  # 4 images, of which 2 are in two slots


@pytest.mark.parametrize(("world_size", "micro"), [(1, None), (2, 4), (4, 4), (2, None), (1, 8)])
def test_parts_of_processes_and_passes_hold_whole_slots(world_size, micro):
    for batch in same_image_batches(IMAGE_IDS, 16, 4, seed=0, epoch=0):
        parts = [part for rank in range(world_size) for part in rank_slice(batch, rank, world_size, micro)]
        slots = [batch[start : start + 4] for start in range(0, 16, 4)]
        assert all(any(set(slot) <= set(part) for part in parts) for slot in slots)


def test_the_more_stand_together_the_fewer_images_a_batch_has():
    images = [
        np.mean([images_in(batch) for batch in same_image_batches(IMAGE_IDS, 16, k, seed=0, epoch=0)])
        for k in (1, 2, 4, 8)
    ]
    assert images == sorted(images, reverse=True) and images[-1] < 0.4 * images[0]


@pytest.mark.parametrize("per_image", [1, 4])
def test_every_sample_is_as_likely_in_any_step_and_as_likely_left_out(per_image):
    ids = np.array([0] * 5 + [1] * 3 + [2, 3] + [4] * 4)  # 14 samples, batches of four: two are left over
    steps, epochs = np.zeros((len(ids), 3)), 3000
    for epoch in range(epochs):
        for step, batch in enumerate(same_image_batches(ids, 4, per_image, seed=0, epoch=epoch)):
            steps[batch, step] += 1
    expected = 4 / 14
    spread = np.sqrt(expected * (1 - expected) / epochs)
    assert np.abs(steps / epochs - expected).max() < 4.5 * spread


def test_impossible_batches_are_refused():
    with pytest.raises(ConfigError, match="optim.batch_size 12 is more than the 11 training samples"):
        same_image_batches(np.zeros(11), 12, 4, seed=0, epoch=0)
    with pytest.raises(ConfigError, match="optim.batch_size 10 is no multiple of data.samples_per_image 4"):
        same_image_batches(np.zeros(11), 10, 4, seed=0, epoch=0)


class Questions:
    """Four questions on each of six images."""

    def __init__(self) -> None:
        vocabulary = ANSWERS["num_answers"]
        work = Workload(images=6, per_image=4, resolution=32)
        self.samples = questions_about(work, vocabulary_size=vocabulary, words=100)
        self.image_ids = np.array([sample.image_id for sample in self.samples])
        self.collate = lambda samples: collate_vqa(samples, pad_id=PAD, vocabulary_size=vocabulary)

    def __len__(self):
        return len(self.samples)

    def __getitems__(self, rows):
        return [self.samples[row] for row in rows]

    def set_epoch(self, epoch):
        pass


def config(samples_per_image: int, micro: int | None = None) -> VQAConfig:
    data = DataConfig(root="none", num_workers=0, samples_per_image=samples_per_image)
    return VQAConfig(data=data, run=nowhere()["run"], optim=OptimConfig(batch_size=8, micro_batch_size=micro))


def passes(settings: VQAConfig, rank: int = 0, world_size: int = 1) -> list:
    return list(epoch_batches(settings, Questions(), 0, 0, rank, world_size))


def test_a_run_with_two_processes_has_the_batches_of_one_and_no_image_in_both():
    whole, parts = passes(config(4)), [passes(config(4), rank, 2) for rank in range(2)]
    assert len(whole) == 3
    for batch, *of_ranks in zip(whole, *parts, strict=True):
        ids = [part.question_ids.tolist() for part in of_ranks]
        assert sum(ids, []) == batch.question_ids.tolist()
        assert [len(part.image_ids) for part in of_ranks] == [1, 1] and len(batch.image_ids) == 2
    micro = passes(config(4, micro=4))
    assert sum((batch.question_ids.tolist() for batch in micro), []) == sum(
        (batch.question_ids.tolist() for batch in whole), []
    )
    assert sorted(sum((batch.question_ids.tolist() for batch in whole), [])) == list(range(24))


def test_one_sample_per_image_is_drawn_as_ever():
    plain = VQAConfig(
        data=DataConfig(root="none", num_workers=0), run=nowhere()["run"], optim=OptimConfig(batch_size=8)
    )
    assert plain == config(1)
    order = np.random.Generator(np.random.PCG64([0, 0])).permutation(24)
    assert [row for batch in passes(plain) for row in batch.question_ids.tolist()] == order.tolist()


def test_settings_that_contradict_each_other_are_refused():
    run = RunConfig(output="none")
    with pytest.raises(ConfigError, match="optim.batch_size 512 is no multiple of data.samples_per_image 3"):
        VQAConfig(data=DataConfig(root="none", samples_per_image=3), run=run)
    with pytest.raises(ConfigError, match="data.samples_per_image must be positive, got 0"):
        DataConfig(root="none", samples_per_image=0)
    with pytest.raises(ConfigError, match="samples_per_image is 2, but data.stream shards has its own order"):
        DataConfig(root="none", samples_per_image=2, stream="shards")
    with pytest.raises(ConfigError, match="samples_per_image is 2, but in pretraining an image is one sample"):
        PretrainConfig(data=DataConfig(root="none", samples_per_image=2), run=run)
