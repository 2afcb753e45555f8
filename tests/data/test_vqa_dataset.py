"""``VQADataset`` and its batches, on a prepared folder of a few coloured images."""

import json
import logging

import pytest
import torch
from PIL import Image

from tests.data.character_tokenizer import character_tokenizer
from tests.prepare.raw_vqav2 import annotation, image_path, question, write_small_vqav2, write_split
from vl_absvit.data.collate import VQASample, collate_vqa
from vl_absvit.data.image_loader import check_disjoint
from vl_absvit.data.loaders import training_loader
from vl_absvit.data.records import ImageTable, read_annotations
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

PLAIN = image_transform(16, (0.5,) * 3, (0.5,) * 3)
AUGMENTED = image_transform(16, (0.5,) * 3, (0.5,) * 3, "randaugment")


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_small_vqav2(tmp_path_factory.mktemp("world") / "raw")


@pytest.fixture(scope="module")
def prepared(raw):
    prepare_vqav2(PrepareOptions(root=raw, min_count=1), raw.parent / "out", 1)
    return raw.parent / "out"


def dataset(root, tokenizer, splits=("train",), size=3, max_tokens=64, transform=PLAIN, training=True, seed=0):
    return VQADataset(root, splits, size, tokenizer, max_tokens, transform, training, seed)


def test_a_sample_is_its_question_image_and_targets(prepared, tokenizer):
    sample = dataset(prepared, tokenizer)[1]
    assert (sample.question_id, sample.image_id) == (1001, 1)
    assert sample.token_ids == [0, *map(ord, "Is thing 1001 red?"), 2]
    assert sample.labels == [0] and sample.scores == pytest.approx([0.6])
    assert torch.equal(sample.image, PLAIN(Image.open(image_path(prepared.parent / "raw", "train", 1))))


def test_every_distinct_image_of_a_batch_is_decoded_once(prepared, tokenizer, monkeypatch):
    opened = []
    open_images = ImageTable.open
    monkeypatch.setattr(ImageTable, "open", lambda self, ids, how: opened.extend(ids) or open_images(self, ids, how))
    data = dataset(prepared, tokenizer)
    batch = data.collate(data.__getitems__([4, 0, 1, 5, 2]))
    assert opened == [2, 1]
    assert batch.image_ids.tolist() == [2, 1] and batch.image_index.tolist() == [0, 1, 1, 0, 1]
    assert batch.question_ids.tolist() == [2001, 1000, 1001, 2002, 1002]
    assert batch.images.shape == (2, 3, 16, 16) and batch.soft_answers.shape == (5, 3)
    assert torch.equal(batch.images[1], data[0].image)


def test_small_plain_images_are_opened_once_and_augmented_ones_in_every_epoch(prepared, tokenizer, monkeypatch):
    opened = []
    open_images = ImageTable.open
    monkeypatch.setattr(ImageTable, "open", lambda self, ids, how: opened.extend(ids) or open_images(self, ids, how))
    for transform, times in ((PLAIN, 1), (AUGMENTED, 2)):
        opened.clear()
        data = dataset(prepared, tokenizer, transform=transform)
        data[0], data[1]
        data.set_epoch(1)
        data[0], data[1]
        assert opened == [1] * times


def test_texts_are_padded_to_a_multiple_of_eight_with_the_pad_id():
    image = torch.zeros(3, 4, 4)
    samples = [
        VQASample(7, 1, image, [0, 5, 2], [2, 0], [1.0, 0.3]),
        VQASample(8, 2, image, [0] + [6] * 8 + [2], [], []),
    ]
    batch = collate_vqa(samples, pad_id=1, vocabulary_size=4)
    assert batch.token_ids.tolist() == [[0, 5, 2] + [1] * 13, [0, 6, 6, 6, 6, 6, 6, 6, 6, 2] + [1] * 6]
    assert batch.is_token.sum(dim=1).tolist() == [3, 10] and batch.is_token[0].tolist()[:4] == [True, True, True, False]
    torch.testing.assert_close(batch.soft_answers, torch.tensor([[0.3, 0, 1.0, 0], [0, 0, 0, 0]]))


def test_long_questions_are_cut_counted_and_reported(prepared, tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        data = dataset(prepared, tokenizer, max_tokens=12)
    assert data.truncated == 12 and "12 questions are longer than 12 tokens" in caplog.text
    assert data[0].token_ids == [0, *map(ord, "Is thing 1"), 2]
    assert dataset(prepared, tokenizer, max_tokens=20).truncated == 0  # exactly as long as the questions


def test_questions_without_a_target_are_dropped_from_training_only(tmp_path, tokenizer, caplog):
    write_split(
        tmp_path / "raw",
        "train",
        [question(1, 5), question(2, 5)],
        [annotation(1, 5), annotation(2, 5, ["zebra"] * 10)],
    )
    (tmp_path / "list.json").write_text(json.dumps(["yes"]))
    prepare_vqav2(PrepareOptions(root=tmp_path / "raw", vocabulary=tmp_path / "list.json"), tmp_path / "out", 1)
    with caplog.at_level(logging.INFO):
        data = dataset(tmp_path / "out", tokenizer, size=1)
    assert data.question_ids.tolist() == [1] and data.dropped == 1 and "1 questions dropped" in caplog.text
    whole = dataset(tmp_path / "out", tokenizer, size=1, training=False)
    assert whole.question_ids.tolist() == [1, 2] and whole.dropped == 0 and whole[1].labels == []


def test_questions_whose_image_was_missing_are_left_out_and_counted(tmp_path, tokenizer, caplog):
    raw = write_small_vqav2(tmp_path / "raw")
    image_path(raw, "train", 2).unlink()
    prepare_vqav2(PrepareOptions(root=raw, min_count=1, allow_missing_images=True), tmp_path / "out", 1)
    data = dataset(tmp_path / "out", tokenizer)
    assert len(data) == 9 and data.without_image == 3 and 2 not in data.image_ids
    assert "3 questions left out" in caplog.text
    assert [sample.image_id for sample in data.__getitems__([2, 3, 8])] == [1, 3, 4]


def test_unannotated_questions_have_zero_targets_and_cannot_be_trained_on(prepared, tokenizer):
    data = dataset(prepared, tokenizer, splits=["test"], training=False)
    assert not data.has_answers and not data.collate(data.__getitems__([0, 1])).soft_answers.any()
    with pytest.raises(InputError, match="test has no answers to train on"):
        dataset(prepared, tokenizer, splits=["test"])
    with pytest.raises(InputError, match="cannot be read together"):
        dataset(prepared, tokenizer, splits=["train", "test"], training=False)


def test_several_splits_are_read_one_after_the_other(prepared, tokenizer):
    data = dataset(prepared, tokenizer, splits=["train", "minival", "val"])
    assert len(data) == 24 and data.question_ids[:12].tolist() == dataset(prepared, tokenizer).question_ids.tolist()
    assert set(data.image_ids) == {1, 2, 3, 4, 101, 102, 103, 104}


def test_labels_beyond_the_vocabulary_are_refused(prepared, tokenizer):
    with pytest.raises(InputError, match="label 2, but the vocabulary has 2 answers"):
        dataset(prepared, tokenizer, size=2)


def test_select_on_what_is_trained_on_is_refused(prepared, tokenizer):
    train, minival = dataset(prepared, tokenizer), dataset(prepared, tokenizer, splits=["minival"])
    check_disjoint(train, minival)
    with pytest.raises(ConfigError, match="4 images are both in data.train_splits and in data.select_split, e.g. 1;"):
        check_disjoint(train, train)


def test_augmentation_follows_seed_epoch_and_image_and_nothing_else(prepared, tokenizer):
    def images(epoch=0, seed=0, workers=0):
        data = dataset(prepared, tokenizer, transform=AUGMENTED, seed=seed)
        loader = training_loader(
            data, batch_size=6, micro_batch_size=3, rank=0, world_size=1, seed=0, epoch=epoch, num_workers=workers
        )
        seen = {}
        for batch in loader:
            for image_id, image in zip(batch.image_ids.tolist(), batch.images, strict=True):
                assert torch.equal(seen.setdefault(image_id, image), image)  # whichever batch it is in
        return torch.stack([seen[image_id] for image_id in sorted(seen)])

    first = images()
    assert torch.equal(images(), first) and torch.equal(images(workers=2), first)
    assert not torch.equal(images(epoch=1), first) and not torch.equal(images(seed=1), first)


def test_images_that_moved_or_changed_are_named(tmp_path, tokenizer):
    raw = write_small_vqav2(tmp_path / "raw")
    prepare_vqav2(PrepareOptions(root=raw, min_count=1), tmp_path / "out", 1)
    data = dataset(tmp_path / "out", tokenizer)
    image_path(raw, "train", 1).write_bytes(b"")
    with pytest.raises(InputError, match=r"COCO_train2014_000000000001.jpg \(image 1\): empty file"):
        data[0]
    image_path(raw, "train", 1).unlink()
    with pytest.raises(InputError, match=r"000000000001.jpg \(image 1\): No such file"):
        data[0]
    raw.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="its pictures are not in .*raw, which does not exist"):
        dataset(tmp_path / "out", tokenizer)


def test_annotations_for_scoring_are_the_raw_answers(prepared):
    records = read_annotations(prepared, ["train"])
    assert [record["question_id"] for record in records][:2] == [1000, 1001]
    assert records[1]["answers"] == ["The Maybe."] * 2 + ["unsure"] * 8
    with pytest.raises(InputError, match="test has no answers"):
        read_annotations(prepared, ["test"])
