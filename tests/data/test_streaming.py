"""Training from stream shards: the same batches for every number of processes, and none read twice or lost."""

import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.character_tokenizer import character_tokenizer
from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from vl_absvit.data import stream_loader
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.loaders import training_loader
from vl_absvit.data.records import read_vocabulary
from vl_absvit.data.stream_folder import SCHEMA, Shard, open_stream
from vl_absvit.data.stream_loader import StreamLoader, questions_per_shard, shard_order
from vl_absvit.data.streaming import StreamedQuestions
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import stream_shards
from vl_absvit.prepare.stream_shards import StreamOptions, write_stream_shards
from vl_absvit.prepare.tables import write_rows
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

PLAIN = image_transform(16, (0.5,) * 3, (0.5,) * 3)
AUGMENTED = image_transform(16, (0.5,) * 3, (0.5,) * 3, "randaugment")
FAST = image_transform(16, (0.5,) * 3, (0.5,) * 3, "randaugment_fast")
IMAGES, PER_IMAGE, SHARDS = 24, 3, 4
BATCH = 12
STEPS = IMAGES * PER_IMAGE // BATCH


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """``base``/out, prepared data, and ``base``/stream, its shards with a row group for each image."""
    base = tmp_path_factory.mktemp("world")
    raw = write_small_vqav2(base / "raw", IMAGES, PER_IMAGE)
    for image in range(1, IMAGES + 1):  # pictures in which something can be turned and moved
        noise = np.random.default_rng(image).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(image_path(raw, "train", image), quality=95)
    prepare_vqav2(PrepareOptions(root=raw, min_count=1), base / "out", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_shards, "BYTES_PER_GROUP", 1)
        options = StreamOptions(data=base / "out", shards=SHARDS)
        write_stream_shards(options, base / "stream", lambda items, total, description: iter(items))
    assert len(open_stream(base / "stream").shards[0].questions) == 6
    return base


def questions(base: Path, transform=PLAIN, folder: Path | None = None, **changes) -> StreamedQuestions:
    options = dict(
        splits=["train"], vocabulary=read_vocabulary(base / "out"), tokenizer=character_tokenizer(), max_tokens=64
    )
    return StreamedQuestions(folder or base / "stream", **(options | changes), transform=transform)


def loader(
    data, rank=0, world_size=1, micro=None, epoch=0, start_step=0, workers=0, batch_size=BATCH, seed=3, epochs=1
):
    return StreamLoader(
        data, batch_size=batch_size, micro_batch_size=micro, rank=rank, world_size=world_size, seed=seed, epoch=epoch,
        epochs=epochs, start_step=start_step, num_workers=workers,
    )  # fmt: skip


def ids(batches) -> list[list[int]]:
    return [batch.question_ids.tolist() for batch in batches]


def equal(ours, theirs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture
def groups_read(monkeypatch):
    """(file, row group) of everything that is read."""
    read, groups = Shard.read, []
    monkeypatch.setattr(Shard, "read", lambda self, group: groups.append((self.path.name, group)) or read(self, group))
    return groups


def test_sampled_images_are_distinct_plain_and_chosen_by_the_seed(base, groups_read):
    data = questions(base, AUGMENTED)
    sampled = [torch.stack(list(data.sample_images(number, seed, PLAIN))) for number, seed in ((9, 0), (9, 0), (9, 1))]
    assert torch.equal(*sampled[:2]) and not torch.equal(*sampled[1:]) and len(sampled[0]) == 9
    assert len(groups_read) <= 30, "no more is read than asked for"
    shown = {each.image_id: each.image for each in plain_samples(base)}
    everything = list(data.sample_images(100, 0, PLAIN))
    assert len(everything) == IMAGES
    rows = {each.numpy().tobytes() for each in everything}
    assert rows == {each.numpy().tobytes() for each in shown.values()}
    assert {each.numpy().tobytes() for each in sampled[0]} < rows


def plain_samples(base):
    """Every question's, from the table."""
    table = VQADataset(
        base / "out", ["train"], len(read_vocabulary(base / "out")), character_tokenizer(), 64, PLAIN, training=True
    )
    return table.__getitems__(range(len(table)))


# The order of an epoch


def test_the_order_of_a_shard_holds_every_question_once_and_follows_its_arguments_alone():
    counts = [3, 1, 7, 2, 5]
    orders = [shard_order(counts, seed, epoch, shard) for seed in (0, 1) for epoch in (0, 1) for shard in (0, 1)]
    assert all(sorted(order) == list(range(18)) for order in orders)
    assert len({tuple(order) for order in orders}) == 8
    assert np.array_equal(orders[0], shard_order(counts, 0, 0, 0))


def test_few_row_groups_are_open_at_a_time_and_always_others_together():
    counts = [20] * 30
    group_of = np.repeat(np.arange(30), 20)
    neighbours = set()
    for epoch in range(3):
        groups = group_of[shard_order(counts, 0, epoch, 0)]
        for place in range(len(groups)):
            is_open = set(groups[: place + 1]) & set(groups[place:])
            assert len(is_open) <= 2 * stream_loader._REACH + 1
        neighbours.add(tuple(sorted(set(groups[:50]))))
    assert len(neighbours) == 3


def test_an_epoch_takes_as_many_questions_of_every_shard_into_every_batch(base):
    data = questions(base)
    shard_of = {q: n for n, shard in enumerate(data.shards) for group in range(len(shard.questions))
                for q in [question.question_id for question in shard.read(group)]}  # fmt: skip
    batches = ids(loader(data))
    assert len(batches) == STEPS == len(data) // BATCH
    assert all(Counter(shard_of[q] for q in batch) == dict.fromkeys(range(SHARDS), 3) for batch in batches)
    assert len(set(sum(batches, []))) == STEPS * BATCH


# Who loads what


@pytest.mark.parametrize(("world_size", "micro"), [(2, None), (4, 1), (3, 2)])
def test_processes_and_accumulation_steps_partition_the_global_batch(base, world_size, micro):
    data = questions(base)
    expected = ids(loader(data))
    per_rank = [ids(loader(data, rank, world_size, micro)) for rank in range(world_size)]
    size = micro or BATCH // world_size
    passes = BATCH // (world_size * size)
    assert {len(batch) for batches in per_rank for batch in batches} == {size}
    for step, batch in enumerate(expected):
        parts = [per_rank[rank][step * passes + a] for a in range(passes) for rank in range(world_size)]
        assert sum(parts, []) == batch


@pytest.mark.parametrize(("world_size", "micro"), [(2, None), (2, 3)])
def test_processes_read_shards_of_their_own(base, world_size, micro, groups_read):
    data, seen = questions(base), []
    for rank in range(world_size):
        groups_read.clear()
        list(loader(data, rank, world_size, micro))
        seen.append({name for name, _ in groups_read})
    assert [len(names) for names in seen] == [SHARDS // world_size] * world_size
    assert len(set.union(*seen)) == SHARDS


def test_shards_that_processes_have_to_share_are_reported(base, caplog):
    with caplog.at_level(logging.INFO):
        loader(questions(base), 0, world_size=2)
        assert "read by several processes" not in caplog.text
        loader(questions(base), 0, world_size=3)
    assert "some of the 4 shards are read by several processes" in caplog.text


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("kind, transform", [("table", AUGMENTED), ("stream", FAST)])
def test_loader_processes_change_nothing(base, kind, transform):
    def epoch(workers):
        if kind == "stream":
            return list(loader(questions(base, transform), micro=6, workers=workers, epoch=1))
        vocabulary = read_vocabulary(base / "out")
        data = VQADataset(base / "out", ["train"], len(vocabulary), character_tokenizer(), 64, transform, True)
        return list(
            training_loader(
                data, batch_size=BATCH, micro_batch_size=6, rank=0, world_size=1, seed=3, epoch=1, num_workers=workers
            )
        )

    alone = epoch(0)
    assert len(alone) == 2 * STEPS
    for workers in (1, 3):
        assert all(equal(ours, theirs) for ours, theirs in zip(epoch(workers), alone, strict=True))


def test_a_loader_of_several_epochs_gives_one_after_the_other(base):
    several = loader(questions(base, AUGMENTED), epoch=1, epochs=2, start_step=1, workers=2)
    batches = list(several)
    alone = [*loader(questions(base, AUGMENTED), epoch=1, start_step=1), *loader(questions(base, AUGMENTED), epoch=2)]
    assert len(several) == len(batches) == len(alone)
    assert all(equal(ours, theirs) for ours, theirs in zip(batches, alone, strict=True))


def test_more_loader_processes_than_shards_are_not_started(base):
    batches = loader(questions(base), world_size=2, workers=5)
    assert batches._parts.num_workers == 2
    assert ids(batches) == ids(loader(questions(base), world_size=2))


def test_a_sample_is_what_it_is_in_a_table(base):
    vocabulary = read_vocabulary(base / "out")
    table = VQADataset(base / "out", ["train"], len(vocabulary), character_tokenizer(), 64, AUGMENTED, True)
    table.set_epoch(2)
    row_of = {question_id: row for row, question_id in enumerate(table.question_ids.tolist())}
    data, number = questions(base, AUGMENTED), 0
    assert sorted(data.image_ids) == sorted(set(table.image_ids))
    for batch in loader(data, epoch=2):
        expected = table.collate(table.__getitems__([row_of[q] for q in batch.question_ids.tolist()]))
        assert equal(batch, expected)
        number += len(batch.question_ids)
    assert number == STEPS * BATCH


# Going on


@pytest.mark.parametrize(("start_step", "workers"), [(3, 2), (STEPS, 0)])
def test_going_on_continues_exactly_where_it_stopped(base, start_step, workers):
    whole = list(loader(questions(base, AUGMENTED), 1, 2, micro=3))
    rest = list(loader(questions(base, AUGMENTED), 1, 2, micro=3, start_step=start_step, workers=workers))
    assert len(rest) == 2 * (STEPS - start_step)
    assert all(equal(ours, theirs) for ours, theirs in zip(rest, whole[2 * start_step :], strict=True))


def test_going_on_reads_only_what_still_comes(base, groups_read, monkeypatch):
    data, start = questions(base), STEPS - 2
    loaded, load = [], StreamedQuestions.load
    monkeypatch.setattr(
        StreamedQuestions, "load", lambda self, some, epoch: loaded.extend(some) or load(self, some, epoch)
    )
    list(loader(data, start_step=start))
    needed = set()
    for number, shard in enumerate(data.shards):
        group_of = np.repeat(np.arange(len(shard.questions)), shard.questions)
        needed |= {(shard.path.name, g) for g in group_of[shard_order(shard.questions, 3, 0, number)[start * 3 :]]}
    assert set(groups_read) == needed and len(groups_read) == len(needed)
    assert len(needed) < 0.7 * sum(len(shard.questions) for shard in data.shards)
    assert len(loaded) == 2 * BATCH


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts what Linux says was read")
def test_a_row_group_is_read_without_the_others(tmp_path):
    def bytes_read():
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    size = 200_000
    rows = [(n, f"{n}.jpg", np.random.default_rng(n).bytes(size), [n], ["?"], [[0]], [[1.0]]) for n in range(8)]
    write_rows(tmp_path / "a.parquet", SCHEMA, rows, rows_per_group=1, compression="none")
    shard = Shard(tmp_path / "a.parquet", [1] * 8)
    shard.read(3)  # and whatever the libraries read once
    for group in (0, 7):
        before = bytes_read()
        assert shard.read(group)[0].image.content == rows[group][2]
        assert size < bytes_read() - before < 2 * size


# What does not fit


def test_what_fills_no_batch_is_dropped_and_counted(base, caplog):
    with caplog.at_level(logging.INFO):
        batches = loader(questions(base), batch_size=40)
    assert len(batches) == 1
    assert (
        "72 samples make 1 batches of 40; the 32 left over in each epoch are dropped, others each time" in caplog.text
    )


def test_a_batch_that_does_not_divide_over_the_shards_is_refused_with_numbers_that_fit():
    assert questions_per_shard(64, 512) == 8
    with pytest.raises(ConfigError, match="48 does not divide over the 64 .*; 64 would fit, or .* --shards 48"):
        questions_per_shard(64, 48)
    with pytest.raises(ConfigError, match="100 does not divide over the 64 .*; 64 or 128 would fit, or .* --shards 50"):
        questions_per_shard(64, 100)


@pytest.fixture
def copy(base, tmp_path):
    return Path(shutil.copytree(base / "stream", tmp_path / "stream"))


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.parquet"))[0]


def test_a_shard_cut_short_is_named(base, copy):
    path = first_shard(copy)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    message = f"{path.name}: expected {size:,} bytes as manifest.json says, got {size - 100:,}"
    with pytest.raises(InputError, match=message):
        questions(base, folder=copy)


def test_a_shard_that_is_missing_or_strange_is_named(base, copy):
    path = first_shard(copy)
    extra = path.with_name("train-00004-of-00005.parquet")
    shutil.copy(path, extra)
    with pytest.raises(InputError, match=f"{extra.name}: manifest.json does not list this file"):
        questions(base, folder=copy)
    extra.unlink()
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: this shard is missing"):
        questions(base, folder=copy)


def test_a_shard_of_the_right_size_that_is_another_one_is_named(base, copy):
    path = first_shard(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["shards"][0]["questions"][0] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=f"{path.name}: not the shard that manifest.json lists"):
        questions(base, folder=copy)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(InputError, match=f"{path.name}: cannot be read as a shard: .*magic bytes"):
        questions(base, folder=copy)


def test_damage_inside_a_shard_is_named_when_it_is_met(base, copy):
    path = first_shard(copy)
    content = open_stream(copy).shards[0].read(2)[0].image.content
    raw = bytearray(path.read_bytes())
    raw[raw.index(content) + len(content) // 2] ^= 1
    path.write_bytes(raw)
    data = questions(base, folder=copy)
    with pytest.raises(InputError, match=f"{path.name}: row group 2 cannot be read as it was written: .*CRC"):
        list(loader(data))


def test_an_image_that_cannot_be_decoded_is_named_with_its_shard(base, copy, monkeypatch):
    read = Shard.read

    def spoiled(self, group):
        return [question._replace(image=question.image._replace(content=b"GIF")) for question in read(self, group)]

    monkeypatch.setattr(Shard, "read", spoiled)
    with pytest.raises(InputError, match=r"stream/train2014/COCO_train2014_\d+.jpg \(image \d+\): "):
        list(loader(questions(base)))


def test_another_vocabulary_or_other_splits_are_refused(base):
    ours = read_vocabulary(base / "out")
    other = AnswerVocabulary(tuple(reversed(ours.answers)), ours.min_count, ours.normaliser)
    with pytest.raises(InputError, match="made with another vocabulary than data.root's: its sha256 is "):
        questions(base, vocabulary=other)
    with pytest.raises(ConfigError, match="data.train_splits is train, val, but data.stream .* written from train$"):
        questions(base, splits=["train", "val"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(kind="vqav2"), "expected the kind 'vqa_stream' of format 1, got 'vqav2' of format 1"),
        (lambda m: m.update(format=2), "of format 1, got 'vqa_stream' of format 2"),
        (lambda m: m.pop("shards"), r"not the manifest of stream shards: KeyError\('shards'\)"),
        (lambda m: m.update(shards=5), "not the manifest of stream shards: TypeError"),
        (lambda m: m.update(shards=[]), "manifest.json: lists no shards"),
        (lambda m: m["options"].update(splits=1), "not the manifest of stream shards: TypeError"),
        (lambda m: m.update(left_out={"lost": 1}), "not the manifest of stream shards: TypeError"),
        (lambda m: m["shards"][0].update(file="../answers.json"), "this shard is missing"),
    ],
)
def test_a_folder_that_is_no_stream_is_refused(base, copy, change, message):
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=message):
        questions(base, folder=copy)


def test_prepared_data_in_place_of_shards_is_refused_with_what_makes_them(base, tmp_path):
    with pytest.raises(InputError, match="got 'vqav2' .*vl-absvit write-stream-shards"):
        questions(base, folder=base / "out")
    with pytest.raises(InputError, match="no stream shards here .*vl-absvit write-stream-shards makes them"):
        questions(base, folder=tmp_path)
