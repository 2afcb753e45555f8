"""The retrieval task: its losses by brute force, hard captions, exact scores, checkpoints, two processes like one."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from rich.progress import Progress

from tests.distributed_helper import run_on_ranks
from tests.tasks.test_vqa import metrics
from tests.tiny_vqa import tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.config import PriorConfig, RetrievalLossConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.retrieval_metrics import listed_pairs, retrieval_recalls
from vl_absvit.models.prior import prior_similarity
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.hard_negatives import Draw, choose_hard_negatives, exchange_samples
from vl_absvit.tasks.prior_losses import Compared
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.retrieval_protocol import describe_protocol
from vl_absvit.tasks.retrieval_scores import GalleryScorer, batches_of_a_length, pair_batches, score_gallery
from vl_absvit.tasks.vl_checkpoint import VLCheckpoint, datasets_trained_on, load_parts
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator, train
from vl_absvit.training.optim import param_groups
from vl_absvit.training.run_dir import open_run
from vl_absvit.variants import VARIANTS

ONE_EACH = RetrievalLossConfig(ranking=1.0, itm=1.0, prior=1.0, reconstruction=1.0)


@pytest.fixture
def task(world, tmp_path):
    return RetrievalTask(tiny_retrieval_config(world, tmp_path, loss=ONE_EACH))


def first_batch(task):
    return next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))


def spread_out(model):
    """Random weights that make scores differ."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3 if name.startswith("head") else 0.15)


def test_ranking_loss_is_that_of_every_pair_read_alone(task):
    spread_out(task.model)
    batch = first_batch(task)
    scores = []
    for row, image in enumerate(batch.image_index.tolist()):
        for candidate in range(4):
            text = slice(4 * row + candidate, 4 * row + candidate + 1)
            out = task.model(batch.images[image : image + 1], batch.token_ids[text], batch.is_token[text])
            scores.append(out.logits.rank)
    expected = F.cross_entropy(torch.cat(scores).view(-1, 4), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(task.losses(task.model, batch)["ranking"], expected)


def test_image_ranking_loss_is_that_of_every_pair_read_alone(world, tmp_path):
    task = RetrievalTask(tiny_retrieval_config(world, tmp_path, loss=ONE_EACH, negative_images=2))
    spread_out(task.model)
    batch = first_batch(task)
    own = batch.token_ids[::4], batch.is_token[::4]
    first, prior = task.model.vision.look_once(batch.images), task.model.encode_texts(*own).prior
    mine = Compared(prior, first.tokens, batch.image_index, batch.image_ids, first.prefix_tokens)
    wanted = Draw(True, 2, "max", 0.07, task.config.run.seed)
    drawn = choose_hard_negatives([mine], exchange_samples([batch]), wanted).images[0]
    scores = []
    for row, image in enumerate(batch.image_index.tolist()):
        assert len({image, *drawn[row].tolist()}) == 3
        for shown in (image, *drawn[row].tolist()):
            text = slice(row, row + 1)
            scores.append(task.model(batch.images[shown : shown + 1], own[0][text], own[1][text]).logits.rank)
    expected = F.cross_entropy(torch.cat(scores).view(-1, 3), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(task.losses(task.model, batch)["image_ranking"], expected)


@pytest.mark.parametrize("loss, captions", [("ranking", 4), ("itm", 1)])
@pytest.mark.parametrize("images", [0, 1])
def test_only_the_pairs_that_a_loss_needs_are_read(world, tmp_path, loss, captions, images):
    weights = {"ranking": 0.0, "itm": 0.0, "prior": 0.0, "reconstruction": 0.0} | {loss: 1.0}
    config = tiny_retrieval_config(
        world, tmp_path, loss=RetrievalLossConfig(**weights), negative_images=images, micro_batch_size=2
    )
    task, read = RetrievalTask(config), []
    batches = list(itertools.islice(epoch_batches(config, task.train_set, 0, 0, 0, 1), 2))
    ahead = task.look_ahead(batches, [0, 1])
    task.model.fusion.register_forward_hook(lambda _, arguments, __: read.append(len(arguments[0])))
    task.model.text.register_forward_hook(lambda _, arguments, __: read.append(len(arguments[0])))
    terms = [loss, "image_ranking"] if loss == "ranking" and images else [loss]
    assert list(task.losses(task.model, batches[0], ahead[0])) == terms
    hard_captions = [2] if loss == "itm" else []
    assert read == [2 * captions, *hard_captions, 2 * captions + sum(hard_captions) + 2 * images]


def test_losses_are_weighted_once_and_a_zero_weight_removes_a_loss(task):
    batch = first_batch(task)
    once = task.losses(task.model, batch)
    task.config = replace(task.config, loss=RetrievalLossConfig(ranking=3.0, itm=3.0, prior=3.0, reconstruction=3.0))
    for name, term in task.losses(task.model, batch).items():
        torch.testing.assert_close(term, 3 * once[name])
    assert list(once) == ["ranking", "image_ranking", "itm", "prior", "reconstruction"]
    task.config = replace(task.config, loss=RetrievalLossConfig(ranking=0.0, itm=1.0, prior=0.0, reconstruction=0.0))
    assert list(task.losses(task.model, batch)) == ["itm"]


@pytest.mark.parametrize("top_down", VARIANTS)
@pytest.mark.parametrize("look", ["first", "second"])
def test_every_trainable_parameter_has_a_rate_and_a_gradient(world, tmp_path, top_down, look):
    if look == "second" and not VARIANTS[top_down].looks_again_for_the_text:
        with pytest.raises(ConfigError, match="prior.look is second"):
            tiny_retrieval_config(world, tmp_path, vision=tiny_vision(top_down=top_down), prior=PriorConfig(look=look))
        return
    config = tiny_retrieval_config(
        world, tmp_path, vision=tiny_vision(top_down=top_down), loss=ONE_EACH, prior=PriorConfig(look=look)
    )
    task = RetrievalTask(config)
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, first_batch(task))
    sum(losses.values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert ("reconstruction" in losses) == VARIANTS[top_down].feeds_back


def test_itm_pairs_every_image_with_its_caption_and_one_of_another_image_and_every_caption_with_another_image(
    task, monkeypatch
):
    spread_out(task.model)
    batch, heard = first_batch(task), []
    task.model.head.register_forward_hook(lambda _, __, out: heard.append(out.itm))
    loss = task.losses(task.model, batch)["itm"]
    own, hard = heard[0][:16:4], heard[0][16:]
    assert len(hard) == 4 + 4
    probabilities = torch.cat([own.softmax(dim=1)[:, 1], hard.softmax(dim=1)[:, 0]])
    torch.testing.assert_close(loss, -probabilities.log().mean())


class Gallery:
    """The model's view of all pairs, one at a time."""

    def __init__(self, task):
        self.gallery, self.model = task.select_set, task.model.eval()

    @torch.no_grad()
    def brute_force(self):
        images, captions = len(self.gallery.image_ids), len(self.gallery.caption_ids)
        similarity, pairs = np.empty((2, images, captions), dtype=np.float32)
        for i in range(images):
            for c in range(captions):
                out = self.model(self.gallery.images[i].unsqueeze(0), *self.gallery.texts([c]))
                pairs[i, c] = out.logits.rank
                similarity[i, c] = prior_similarity(out.prior, out.looks.first.tokens, self.model.pool)
        return similarity, pairs

    def score(self, **options):
        return score_gallery(self.model, self.gallery, bar=Progress(disable=True), **options)


@pytest.mark.parametrize("top_down, start", [*((name, 0) for name in VARIANTS), ("absvit", 1)])
def test_scores_equal_a_loop_over_whole_models(world, tmp_path, top_down, start):
    vision = tiny_vision(top_down=top_down, looks_again_from=start)
    task = RetrievalTask(tiny_retrieval_config(world, tmp_path, vision=vision))
    spread_out(task.model)
    gallery = Gallery(task)
    similarity, pairs = gallery.brute_force()
    scores = gallery.score(look="second", size=None, batch_size=3)
    np.testing.assert_allclose(scores.similarity, similarity, atol=1e-5)
    np.testing.assert_allclose(scores.pairs, pairs, atol=1e-5)
    assert pairs.std() > 0.01, "the scores must differ for this to mean something"


def test_pairs_are_read_a_batch_at_a_time_whole_ones_of_one_image_and_the_rest_together():
    listed = np.zeros((3, 6), dtype=bool)
    listed[0], listed[1, [0, 5]], listed[2, 3] = True, True, True
    lengths = np.array([9, 4, 7, 3, 8, 5])
    batches = [(rows.tolist(), captions.tolist()) for rows, captions in pair_batches(listed, lengths, 4)]
    assert batches == [([0, 0, 0, 0], [3, 1, 5, 2]), ([2, 1, 0, 0], [3, 5, 4, 0]), ([1], [0])]
    assert list(pair_batches(np.zeros((2, 6), dtype=bool), lengths, 4)) == []


def test_captions_of_a_length_are_encoded_together():
    batches = batches_of_a_length(np.array([5, 3, 5, 5, 3]), 2)
    assert [rows.tolist() for rows in batches] == [[1, 4], [0, 2], [3]]


def test_in_bf16_captions_are_kept_in_bf16_and_scores_differ_from_those_of_fp32_by_5e_3_at_most_on_average(task):
    gallery, scores = Gallery(task), {}
    for precision in ("fp32", "bf16"):
        with torch.no_grad(), arithmetic(precision, torch.device("cpu")):
            scores[precision] = gallery.score(look="second", size=None)
            texts = GalleryScorer(task.model, task.select_set, None, Progress(disable=True)).texts
            assert texts.take(np.arange(2)).tokens.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    for exact, rounded in zip(scores["fp32"], scores["bf16"], strict=True):
        assert 0 < np.sqrt(((exact - rounded) ** 2).mean()) < 5e-3 < exact.std()


def test_in_bf16_the_fusion_sees_the_same_of_tokens_kept_in_bf16(task):
    fusion, texts, image = task.model.fusion.eval(), torch.randn(3, 8, 16), torch.randn(3, 5, 16)
    is_token = torch.ones(3, 8, dtype=torch.bool)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = fusion(texts, is_token, image, pooled_only=True).pooled
        assert torch.equal(fusion(texts.bfloat16(), is_token, image, pooled_only=True).pooled, expected)


@pytest.mark.parametrize(
    "top_down, label, seen",
    [
        ("none", "ViT", "(first look and fusion)"),
        ("perceiver_io", "PerceiverIO", "(reweighted first look and fusion)"),
        ("feedback", "Feedback", "(second look and fusion)"),
        ("mask_att", "MaskAtt", "(second look and fusion)"),
        ("absvit", "AbSViT", "(second look and fusion)"),
        ("absvit_qkv", "AbSViT-QKV", "(second look and fusion)"),
    ],
)
def test_the_protocol_names_the_encoder_and_what_of_it_is_fused(world, tmp_path, top_down, label, seen):
    task = RetrievalTask(tiny_retrieval_config(world, tmp_path, vision=tiny_vision(top_down=top_down)))
    checkpoint = VLCheckpoint(task.model, task.tokenizer, task.preprocessing, task.training)
    protocol = describe_protocol(checkpoint, task.config.data.root, "val", task.select_set, "second", 2)
    assert protocol["model"] == label and seen in protocol["protocol"]


def test_a_shortlist_scores_its_pairs_as_all_do_and_one_of_the_gallery_is_all(task):
    spread_out(task.model)
    gallery = Gallery(task)
    every = gallery.score(look="second", size=None)
    few = gallery.score(look="second", size=1)
    listed = listed_pairs(every.similarity, 1)
    assert np.array_equal(~np.isnan(few.pairs), listed) and 0 < listed.sum() < listed.size
    np.testing.assert_allclose(few.pairs[listed], every.pairs[listed], atol=1e-5)
    for size in (len(task.select_set.caption_ids), 10_000):
        scores = gallery.score(look="second", size=size)
        np.testing.assert_array_equal(scores.pairs, every.pairs)
        own = task.select_set.image_of_caption
        assert retrieval_recalls(scores.pairs, own, scores.similarity, size) == retrieval_recalls(every.pairs, own)


def test_the_first_look_alone_judges_no_pairs_and_runs_no_second_look(task, monkeypatch):
    monkeypatch.setattr(type(task.model.vision), "look_again", None)
    scores = Gallery(task).score(look="first", size=None)
    assert scores.pairs is None and np.isfinite(scores.similarity).all()


class MemoryStore(dict):
    """Chunks kept in memory; after ``limit`` of them the evaluation is interrupted."""

    limit = 10**9

    def put(self, name, array):
        if len(self) == self.limit:
            raise KeyboardInterrupt
        self[name] = array


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_an_interrupted_evaluation_goes_on_to_the_same_scores(task, monkeypatch, limit):
    monkeypatch.setattr("vl_absvit.tasks.retrieval_scores.IMAGES_PER_CHUNK", 1)
    expected = Gallery(task).score(look="second", size=1)
    store = MemoryStore()
    store.limit = limit
    with pytest.raises(KeyboardInterrupt):
        Gallery(task).score(look="second", size=1, store=store)
    store.limit = 10**9
    looks = []
    task.model.vision.patch_embed.register_forward_hook(lambda _, arguments, __: looks.append(len(arguments[0])))
    scores = Gallery(task).score(look="second", size=1, store=store)
    np.testing.assert_array_equal(scores.pairs, expected.pairs)
    np.testing.assert_array_equal(scores.similarity, expected.similarity)
    assert sum(looks) == 2 - max(0, limit - 2), "an image whose pairs are scored is not looked at again"


def test_a_saved_checkpoint_scores_alike_and_tells_its_history(task, world, tmp_path):
    vqa = VQATask(tiny_vqa_config(world, tmp_path / "vqa"))
    vqa.model.head[0].weight.data.fill_(1.0)
    (tmp_path / "vqa").mkdir()
    vqa.save(tmp_path / "vqa")
    started = RetrievalTask(replace(task.config, from_checkpoint=str(tmp_path / "vqa")))
    for part in ("vision", "text", "prior", "fusion"):
        for name, weight in getattr(vqa.model, part).state_dict().items():
            assert torch.equal(getattr(started.model, part).state_dict()[name], weight), f"{part}.{name}"
    (tmp_path / "saved").mkdir()
    started.save(tmp_path / "saved")
    loaded = load_parts(tmp_path / "saved", "matching")
    batch = first_batch(task)
    inputs = (batch.images[batch.image_index], batch.token_ids[::4], batch.is_token[::4])
    expected = started.model.eval()(*inputs).logits
    torch.testing.assert_close(loaded.model(*inputs).logits.rank, expected.rank, rtol=0, atol=0)
    assert datasets_trained_on(loaded.training) == ["vqav2", "coco"]
    with pytest.raises(InputError, match="expected a VQA model, got a retrieval model"):
        load_parts(tmp_path / "saved", "vqa")


@pytest.mark.parametrize("look", ["first", "second"])
def test_passes_of_a_step_have_the_gradient_of_one_pass_with_all_their_images(world, tmp_path, monkeypatch, look):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    gradients, terms = [], []
    for size in (4, 2):
        AcceleratorState._reset_state(reset_partial_state=True)
        config = tiny_retrieval_config(
            world, tmp_path, loss=ONE_EACH, prior=PriorConfig(look=look), micro_batch_size=size
        )
        task, accelerator = RetrievalTask(config), make_accelerator(config.run)
        passes = 4 // size
        accelerator.gradient_accumulation_steps = passes
        batches = list(itertools.islice(epoch_batches(config, task.train_set, 0, 0, 0, 1), passes))
        parts = accumulate_gradients(task, task.model.double(), accelerator, to_double(batches), range(passes))
        terms.append({name: sum(part[name] for part in parts) / passes for name in parts[0]})
        gradients.append({name: parameter.grad for name, parameter in task.model.named_parameters()})
    assert list(terms[0]) == ["ranking", "image_ranking", "itm", "prior", "reconstruction"]
    torch.testing.assert_close(terms[1], terms[0], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_images_that_are_looked_at_for_a_caption_do_not_count_where_rows_are_images(world, tmp_path):
    vision, found = tiny_vision(top_down="feedback"), []
    for number in (0, 1):
        config = tiny_retrieval_config(
            world, tmp_path, vision=vision, loss=ONE_EACH, negative_images=number, micro_batch_size=2
        )
        task = RetrievalTask(config)
        batches = list(itertools.islice(epoch_batches(config, task.train_set, 0, 0, 0, 1), 2))
        terms = task.losses(task.model, batches[0], task.look_ahead(batches, [0, 1])[0])
        found.append({name: terms[name] for name in ("prior", "reconstruction")})
    torch.testing.assert_close(found[1], found[0])


def to_double(batches):
    return [batch._replace(images=batch.images.double()) for batch in batches]


def train_and_score(world: Path, output: Path) -> list:
    """Final parameters of a short training, and scores of the validation gallery."""
    config = tiny_retrieval_config(world, output, loss=ONE_EACH)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, task = make_accelerator(config.run), RetrievalTask(config)
    untrained = Gallery(task).score(look="second", size=1)
    train(config, task, accelerator, open_run(config))
    scores = Gallery(task).score(look="second", size=1)
    parameters = {name: parameter.detach() for name, parameter in task.model.named_parameters()}
    tables = [untrained.similarity, untrained.pairs, scores.similarity, scores.pairs]
    return [parameters, *(torch.from_numpy(table) for table in tables)]


@pytest.mark.slow
def test_two_processes_train_and_score_like_one(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    _, *alone = train_and_score(world, tmp_path / "one")
    first, second = run_on_ranks(train_and_score, 2, world, tmp_path / "two")
    assert all(torch.equal(parameter, second[0][name]) for name, parameter in first[0].items())
    for ours, theirs in zip(first[1:], second[1:], strict=True):
        assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))
    for ours, expected in zip(first[1:3], alone[:2], strict=True):  # the same weights
        torch.testing.assert_close(ours, expected, equal_nan=True, rtol=0, atol=1e-6)
    # Weights after ten steps. No loss depends on the ranking head's bias, so that rounding alone moves it.
    for ours, expected in zip(first[3:], alone[2:], strict=True):
        ours, expected = ours - ours.nanmean(), expected - expected.nanmean()
        torch.testing.assert_close(ours, expected, equal_nan=True, rtol=1e-3, atol=1e-3)
    for line, expected in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert line == pytest.approx(expected, rel=5e-4)
