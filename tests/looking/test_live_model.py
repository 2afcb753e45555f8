"""Asked live: the answers of an evaluation, maps of the same pass, one first look per picture, clear refusals."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from tests.lively_vqa import lively_task
from tests.tiny_vqa import tiny_vision
from vl_absvit.data.loaders import evaluation_loader
from vl_absvit.data.records import ImageTable, read_questions
from vl_absvit.errors import InputError
from vl_absvit.looking.live_model import KEPT_LOOKS, PICTURE_SIDE, LiveModel
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.tasks.vqa import VQACheckpoint, make_dataset, predict_answers

CPU = torch.device("cpu")
RING, STAR = "Is there a ring here?", "What color is the striped star?"


def make_checkpoint(world, output, **parts) -> VQACheckpoint:
    task = lively_task(world, output, **parts)
    return VQACheckpoint(task.model, task.tokenizer, task.preprocessing, task.training, task.vocabulary)


@pytest.fixture
def checkpoint(world, tmp_path):
    return make_checkpoint(world, tmp_path)


@pytest.fixture
def live(checkpoint):
    return LiveModel(checkpoint, CPU)


def png(width=48, height=40, seed=0, form="PNG", **options) -> bytes:
    """The file of a picture of noise."""
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture
def looks(monkeypatch):
    """One entry per first look that is computed."""
    computed, look_once = [], AbSViT.look_once

    def count(self, images):
        computed.append(len(images))
        return look_once(self, images)

    monkeypatch.setattr(AbSViT, "look_once", count)
    return computed


def test_answers_are_those_of_an_evaluation(checkpoint, live, world):
    root = world / "prepared"
    dataset = make_dataset(root, ["val"], checkpoint.tokenizer, len(checkpoint.vocabulary), checkpoint.preprocessing)
    loader = evaluation_loader(dataset, batch_size=7, rank=0, world_size=1, num_workers=0)
    expected = {
        record["question_id"]: record["answer"]
        for record in predict_answers(checkpoint.model, loader, checkpoint.vocabulary)
    }
    images, found = ImageTable(root), {}
    for record in read_questions(root, ["val"]):
        (image,) = images.records([record["image_id"]])
        content = image.content or (world / "demo/vqav2" / image.file).read_bytes()
        found[record["question_id"]] = live.ask(content, record["question"]).answers[0].prediction
    assert found == expected and len({*found.values()}) > 1


def test_confidences_are_sigmoids_of_the_five_highest_logits_in_order(checkpoint, live):
    reply = live.ask(png(), RING)
    image = checkpoint.preprocessing.transform()(Image.open(io.BytesIO(png())))
    token_ids = torch.tensor([checkpoint.tokenizer(RING)["input_ids"]])
    with torch.no_grad():
        logits = checkpoint.model(image[None], token_ids, torch.ones_like(token_ids, dtype=torch.bool)).logits[0]
    best = logits.sigmoid().topk(5)
    assert [answer.prediction for answer in reply.answers] == [checkpoint.vocabulary.answers[k] for k in best.indices]
    assert [answer.confidence for answer in reply.answers] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_maps_change_with_the_question_where_they_know_it(live):
    ring, star = live.ask(png(), RING), live.ask(png(), STAR)
    assert list(ring.maps) == ["prior_mask", "top_down", "bottom_up", "cross"]
    changed = [name for name, grid in ring.maps.items() if not np.array_equal(grid, star.maps[name])]
    assert changed == ["prior_mask", "top_down", "cross"]


def test_a_plain_vit_shows_the_maps_it_has(world, tmp_path):
    plain = make_checkpoint(world, tmp_path, vision=tiny_vision(top_down="none"))
    assert list(LiveModel(plain, CPU).ask(png(), RING).maps) == ["bottom_up", "cross"]


def test_a_picture_is_looked_at_once_as_long_as_it_is_asked_about(live, looks):
    assert [live.ask(png(), question).looked_before for question in (RING, STAR, RING)] == [False, True, True]
    assert len(looks) == 1
    for seed in range(1, KEPT_LOOKS):
        assert not live.ask(png(seed=seed), RING).looked_before
    assert live.ask(png(), RING).looked_before
    assert not live.ask(png(seed=KEPT_LOOKS), RING).looked_before  # takes the place of the one asked about longest ago
    assert live.ask(png(), RING).looked_before and not live.ask(png(seed=1), RING).looked_before


def test_a_kept_look_gives_what_a_new_one_gives(checkpoint, live):
    live.ask(png(), RING)
    live.ask(png(seed=1), RING)
    kept, new = live.ask(png(), STAR), LiveModel(checkpoint, CPU).ask(png(), STAR)
    assert kept.answers == new.answers
    assert all(np.array_equal(grid, new.maps[name]) for name, grid in kept.maps.items())


def test_questions_asked_at_once_do_not_mix(checkpoint, live):
    asked = [(png(seed=seed), question) for seed in range(3) for question in (RING, STAR)] * 3
    expected = [LiveModel(checkpoint, CPU).ask(*each).answers for each in asked[:6]] * 3
    with ThreadPoolExecutor(6) as pool:
        assert [reply.answers for reply in pool.map(lambda each: live.ask(*each), asked)] == expected


def test_the_picture_is_upright_and_its_seen_part_is_marked(live):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    reply = live.ask(png(width=40, height=120, form="JPEG", exif=turned), RING)
    assert reply.picture.size == (PICTURE_SIDE, round(PICTURE_SIDE / 3)) and reply.picture.mode == "RGB"
    assert reply.box == pytest.approx((PICTURE_SIDE / 3, 0, 2 * PICTURE_SIDE / 3, PICTURE_SIDE / 3), abs=0.5)


def test_overlays_are_mixed_linearly_by_strength(live):
    reply = live.ask(png(width=120), RING)
    picture = np.asarray(reply.picture, dtype=float)
    weak, full = reply.overlays(strength=0.3), reply.overlays(strength=1)
    assert list(weak) == list(reply.maps)
    for name, overlay in weak.items():
        mixed = 0.7 * picture + 0.3 * np.asarray(full[name], dtype=float)
        assert np.abs(np.asarray(overlay) - mixed).max() <= 1
        assert np.abs(np.asarray(overlay) - picture).max() > 20


def test_a_question_longer_than_the_model_reads_is_said_to_be_cut(checkpoint, live):
    words, limit = ["ring"], checkpoint.preprocessing.max_tokens
    while len(checkpoint.tokenizer(" ".join(words))["input_ids"]) < limit:
        words.append("ring")
    assert len(checkpoint.tokenizer(" ".join(words))["input_ids"]) == limit
    assert not live.ask(png(), " ".join(words)).is_cut
    assert live.ask(png(), " ".join([*words, "ring"])).is_cut


def test_white_space_around_a_question_does_not_count(live):
    assert live.ask(png(), f" {RING}\n").answers == live.ask(png(), RING).answers


@pytest.mark.parametrize(
    ("content", "question", "message"),
    [
        (b"hello", RING, "not an image"),
        (b"", RING, "empty file"),
        (png()[:200], RING, "cannot be decoded"),
        (png(width=1), RING, "1 x 40 pixels"),
        (png(), "", "the question is empty"),
        (png(), " \n", "the question is empty"),
        (png(), "\ud800", "cannot be written in UTF-8"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_the_next_question_is_answered(live, content, question, message):
    expected = live.ask(png(), RING).answers
    with pytest.raises(InputError, match=message):
        live.ask(content, question)
    assert live.ask(png(), RING).answers == expected


def test_weights_that_are_not_numbers_are_refused(checkpoint, live):
    torch.nn.init.constant_(next(checkpoint.model.head.parameters()), float("nan"))
    with pytest.raises(InputError, match="weights are damaged"):
        live.ask(png(), RING)


def test_bf16_answers_nearly_alike_whatever_thread_asks(checkpoint, live):
    rough = LiveModel(checkpoint, CPU, "bf16")
    with ThreadPoolExecutor(1) as server:
        exact, other = (server.submit(model.ask, png(), RING).result() for model in (live, rough))
    confidences = {answer.prediction: answer.confidence for answer in exact.answers}
    found = {answer.prediction: answer.confidence for answer in other.answers}
    assert found != confidences and found == pytest.approx(confidences, abs=0.05)
    assert all(grid.dtype == np.float32 for grid in other.maps.values())
