"""What an export is about: samples, places and facts of prepared and of own questions, and batches that share looks."""

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.character_tokenizer import character_tokenizer
from tests.prepare.raw_vqa_hat import prepare as prepare_hat
from tests.prepare.raw_vqa_hat import write_small_hat
from tests.prepare.raw_vqav2 import image_path, write_small_vqav2
from vl_absvit.data.loaders import batch_loader
from vl_absvit.data.transforms import image_transform
from vl_absvit.data.vqa import VQADataset
from vl_absvit.errors import InputError
from vl_absvit.looking.geometry import seen_box
from vl_absvit.looking.own_samples import OwnTexts
from vl_absvit.looking.own_texts import make_request
from vl_absvit.looking.picture_texts import SplitQuestions, batches_by_image
from vl_absvit.prepare.vqav2 import PrepareOptions, prepare_vqav2

TRANSFORM = image_transform(16, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_small_vqav2(tmp_path_factory.mktemp("world") / "raw")


def prepare(raw, output, **options):
    options = {"min_count": 1, "minival_images": 1} | options
    prepare_vqav2(PrepareOptions(root=raw, **options), output, 1)
    return output


@pytest.fixture(scope="module")
def prepared(raw):
    return prepare(raw, raw.parent / "out")


def split_questions(root, split, vocabulary_size=4):
    samples = VQADataset(root, split.split(","), vocabulary_size, character_tokenizer(), 64, TRANSFORM, training=False)
    return SplitQuestions(root, split, samples)


def test_a_prepared_question_comes_with_its_file_its_answers_and_its_size(prepared, raw):
    questions = split_questions(prepared, "train")
    asked = questions.text_at(4)
    assert questions.ids[4] == asked.id == "2001" and (asked.text_id, asked.image_id) == (2001, 2)
    assert asked.image == image_path(raw, "train", 2) and asked.content is None
    assert asked.text == "Is thing 2001 red?" and asked.answer_type == "yes/no"
    assert asked.answers == ["yes"] * 10 and asked.truth == "yes"
    assert questions.image_size(4) == questions.open(4).size == (12, 8)


def test_several_splits_are_asked_together_in_the_order_named(prepared):
    questions = split_questions(prepared, "val,minival")
    apart = [split_questions(prepared, split) for split in ("val", "minival")]
    assert questions.ids == apart[0].ids + apart[1].ids and questions.describe()["split"] == "val,minival"
    assert SplitQuestions(prepared, "val , minival", questions.samples).describe() == questions.describe()
    for row, one, place in ((0, apart[0], 0), (-1, apart[1], -1)):
        assert questions.text_at(row) == one.text_at(place)


def test_questions_without_answers_are_about_pictures_too(prepared, tmp_path):
    hat = tmp_path / "hat"
    prepare_hat(write_small_hat(tmp_path / "raw"), hat)
    for root, split, id in ((prepared, "test", "201000"), (hat, "val", "10")):
        asked = split_questions(root, split).text_at(0)
        assert asked.id == id and asked.answers is asked.answer_type is asked.truth is None
        assert asked.image.is_file()


def test_pictures_inside_the_tables_come_with_their_bytes(raw, tmp_path):
    asked = split_questions(prepare(raw, tmp_path / "out", embed_images=True), "train").text_at(0)
    assert asked.content == image_path(raw, "train", 1).read_bytes()


def test_questions_whose_image_was_missing_are_left_out_and_the_others_keep_their_facts(raw, tmp_path):
    copy = tmp_path / "raw"
    write_small_vqav2(copy)
    image_path(copy, "train", 2).unlink()
    questions = split_questions(prepare(copy, tmp_path / "out", allow_missing_images=True), "train")
    assert [id[0] for id in questions.ids] == list("111333444")
    assert all(questions.text_at(row).text == f"Is thing {id} red?" for row, id in enumerate(questions.ids))


def test_a_picture_that_is_another_than_at_preparation_is_refused(tmp_path):
    raw = write_small_vqav2(tmp_path / "raw")
    questions = split_questions(prepare(raw, tmp_path / "out"), "train")
    Image.new("RGB", (8, 12)).save(image_path(raw, "train", 1))
    with pytest.raises(InputError, match="image 1 had 12 x 8 pixels when it was prepared and now has 8 x 12"):
        questions.open(0)


def own(*requests, max_tokens=64):
    made = [
        make_request(image, question, "test", id)._replace(more=dict(*more)) for id, image, question, *more in requests
    ]
    return OwnTexts(made, character_tokenizer(), max_tokens, TRANSFORM)


def test_own_questions_are_samples_like_any_other(tmp_path):
    for name, shade in (("a.png", 10), ("b.png", 200)):
        Image.new("RGB", (24, 16), (shade,) * 3).save(tmp_path / name)
    questions = own(("x", tmp_path / "a.png", "Hi"), ("y", tmp_path / "b.png", "?"), ("z", tmp_path / "a.png", "Why"))
    (batch,) = batch_loader(questions.samples, [[0, 2, 1]], num_workers=0)
    assert batch.question_ids.tolist() == [0, 2, 1] and batch.image_index.tolist() == [0, 0, 1]
    assert batch.token_ids[0, :4].tolist() == [0, ord("H"), ord("i"), 2]
    assert batch.is_token.sum(dim=1).tolist() == [4, 5, 3]
    assert torch.equal(batch.images[1], TRANSFORM(Image.open(tmp_path / "b.png")))
    asked = questions.text_at(1)
    assert asked.id == "y" and asked.image == tmp_path / "b.png" and asked.text == "?"
    assert asked.text_id is asked.image_id is asked.answers is asked.truth is None


@pytest.mark.parametrize("size", [(101, 67), (67, 101)])
def test_a_mark_in_a_turned_photograph_is_in_the_patch_that_its_place_says(tmp_path, size):
    upright = Image.new("RGB", size)
    x0, y0, x1, y1 = seen_box(*size, 16)
    cell = (x1 - x0) / 2, (y1 - y0) / 2
    upright.paste("white", tuple(round(edge) for edge in (x0 + cell[0], y0, x1, y0 + cell[1])))  # upper right quarter
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its side
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    questions = own(("a", tmp_path / "a.jpg", "What?"))
    assert questions.image_size(0) == size
    (sample,) = questions.samples.__getitems__([0])
    quarters = sample.image.mean(dim=0).unflatten(1, (2, 8)).unflatten(0, (2, 8)).mean(dim=(1, 3))
    np.testing.assert_allclose(quarters, [[0, 1], [0, 0]], atol=0.1)


def test_an_unreadable_picture_is_named_with_its_line(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    questions = own(("a", tmp_path / "a.jpg", "What?"))
    with pytest.raises(InputError, match="test: .*a.jpg: not an image"):
        questions.samples.__getitems__([0])
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match="test: .*a.jpg: No such file"):
        questions.open(0)


def test_a_question_that_is_cut_is_counted(tmp_path, caplog):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        own(("a", tmp_path / "a.png", "What is it?"), ("b", tmp_path / "a.png", "Why?"), max_tokens=8)
    assert caplog.messages == ["1 questions are longer than 8 tokens and are cut"]


def test_the_description_changes_with_every_question_id_and_picture(prepared, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "b.png")
    one = ("x", tmp_path / "a.png", "What?")
    others = [("y", one[1], one[2]), (one[0], tmp_path / "b.png", one[2]), (one[0], one[1], "Why?")]
    others.append((*one, {"answer": "box"}))
    made = [own(one).describe()["requests"], *(own(other).describe()["requests"] for other in others)]
    assert own(one).describe()["requests"] == made[0]
    (tmp_path / "moved.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert own((one[0], tmp_path / "moved.png", one[2])).describe()["requests"] == made[0]
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    made.append(own(one).describe()["requests"])
    assert len(set(made)) == 6
    splits = [split_questions(prepared, split).describe() for split in ("train", "val")]
    shutil.copytree(prepared.parent, tmp_path / "moved")
    assert split_questions(tmp_path / "moved/out", "val").describe() == splits[1]
    assert splits[0] != splits[1]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 100])
def test_batches_hold_every_row_once_and_divide_only_images_that_do_not_fit(batch_size):
    image_ids = np.random.default_rng(0).integers(0, 9, size=40)
    batches = batches_by_image(image_ids, batch_size)
    assert sorted(row for batch in batches for row in batch) == list(range(40))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    for image_id in range(9):
        rows = np.flatnonzero(image_ids == image_id).tolist()
        holding = [batch for batch in batches if set(batch) & set(rows)]
        assert len(holding) <= -(-len(rows) // batch_size)
    fullest = min(batch_size, max(np.bincount(image_ids)))
    assert all(len(a) + fullest > batch_size for a in batches[:-1])  # no batch ends before the next image would not fit


def test_batches_keep_the_order_of_grouped_questions():
    assert batches_by_image(np.array([5, 5, 2, 2, 2, 9]), 4) == [[0, 1], [2, 3, 4, 5]]
    assert batches_by_image(np.array([5, 2, 5]), 2) == [[0, 2], [1]]
    assert batches_by_image(np.array([], dtype=int), 2) == []
