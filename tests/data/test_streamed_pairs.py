"""Pictures inside the prepared tables are read in place: in windows of row groups, by step alone, on any processes."""

import shutil
from collections import Counter

import pytest
import torch

from tests.prepare.raw_pairs import picture, prepare, write_shard
from tests.tiny_vqa import world  # noqa: F401
from vl_absvit.data import mixing
from vl_absvit.data.loaders import training_loader
from vl_absvit.data.pairs import PairDataset, PairFolder
from vl_absvit.data.parquet import LargeValues
from vl_absvit.data.records import ImageTable
from vl_absvit.data.transforms import image_transform
from vl_absvit.prepare import tables
from vl_absvit.tasks.tokenizers import load_tokenizer

BATCH, PICTURES = 8, 20  # of each of two shards


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A prepared folder with a few pictures in a row group, of shards that are gone, read a few groups at a time."""
    monkeypatch.setattr(tables, "_BYTES_PER_GROUP", 3 * len(picture(0)))
    monkeypatch.setattr(mixing, "GROUPS_AT_ONCE", 4)
    for number in range(2):
        keys = [f"{number:05d}{k:04d}" for k in range(PICTURES)]
        shades = {key: PICTURES * number + place for place, key in enumerate(keys)}
        write_shard(tmp_path / "shards", number, {key: (f"a thing {key}", picture(shades[key])) for key in keys})
    prepare(tmp_path / "shards", tmp_path / "out")
    shutil.rmtree(tmp_path / "shards")
    return tmp_path / "out"


@pytest.fixture
def data(folder, world):  # noqa: F811
    transform = image_transform(32, (0.5,) * 3, (0.5,) * 3, augmentation="randaugment")
    tokenizer = load_tokenizer(str(world / "demo/tokenizer"))
    return PairDataset([PairFolder(str(folder), ("train",), 0)], tokenizer, 24, transform, share=0.15, seed=2)


def batches(data, rank=0, processes=1, start_step=0, micro_batch_size=None, workers=0):
    return list(training_loader(
        data, batch_size=BATCH, micro_batch_size=micro_batch_size, rank=rank, world_size=processes, seed=2, epoch=0,
        epochs=2, start_step=start_step, num_workers=workers,
    ))  # fmt: skip


def rows_of(batch):
    """What the batch has of each caption."""
    return {
        int(caption): (batch.images[image], ids[mask].tolist(), int(shown))
        for caption, image, ids, mask, shown in zip(
            batch.caption_ids, batch.image_index, batch.hidden_ids, batch.is_token, batch.shown, strict=True
        )
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for caption, (image, *rest) in expected.items():
        assert torch.equal(found[caption][0], image) and found[caption][1:] == tuple(rest)


def test_an_epoch_has_every_picture_once_and_opens_few_row_groups_at_a_time(folder, data, monkeypatch):
    opened = []
    read = LargeValues._read
    monkeypatch.setattr(LargeValues, "_read", lambda self, group: opened.append(group) or read(self, group))
    of_epoch = batches(data)[: 2 * PICTURES // BATCH]
    assert Counter(sum((batch.caption_ids.tolist() for batch in of_epoch), [])).most_common(1)[0][1] == 1
    assert sum(len(batch.caption_ids) for batch in of_epoch) == 2 * PICTURES
    groups = ImageTable(folder).groups(data.image_ids)
    assert (number := len(set(groups.tolist()))) > 8
    rows, _ = data.mixture.batches(BATCH, 0)
    for group in range(number):
        steps = [step for step, batch in enumerate(rows) if group in groups[batch]]
        assert steps[-1] - steps[0] <= 2  # four groups have at most sixteen pictures
    assert set(opened) == set(range(number))


@pytest.mark.parametrize(("processes", "micro_batch_size"), [(2, None), (2, 2), (4, 1)])
def test_processes_and_passes_have_the_samples_of_one(data, processes, micro_batch_size):
    whole = batches(data)
    parts = [batches(data, rank, processes, 0, micro_batch_size) for rank in range(processes)]
    passes = len(parts[0]) // len(whole)
    for step, batch in enumerate(whole):
        found: dict = {}
        for part in parts:
            for each in part[step * passes : (step + 1) * passes]:
                found |= rows_of(each)
        assert_same(found, rows_of(batch))


@pytest.mark.parametrize("step", [1, 4])
def test_a_run_that_goes_on_reads_what_was_left(data, step):
    for found, expected in zip(batches(data, start_step=step), batches(data)[step:], strict=True):
        assert_same(rows_of(found), rows_of(expected))
        assert torch.equal(found.positions, expected.positions)


def test_pictures_that_are_files_have_no_groups(world):  # noqa: F811
    table = ImageTable(world / "prepared/coco")
    assert table.groups(table.available) is None
