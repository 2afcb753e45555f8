"""Pretraining on pairs: exact halves, global means, false pairs that are false, gradients everywhere, going on."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.tiny_pairs import tiny_pairs_config
from tests.tiny_vqa import tiny_vision, tiny_vqa_config, write_config
from vl_absvit.cli import parse_run_config
from vl_absvit.config import PairsConfig, PairSource
from vl_absvit.data.pairs import FALSE_CAPTION, FALSE_IMAGE, TRUE
from vl_absvit.errors import ConfigError
from vl_absvit.evaluation.pair_metrics import JudgedCaptions, pair_scores
from vl_absvit.models.strength import strength, trained_strength
from vl_absvit.models.vl_model import Pairs
from vl_absvit.tasks.base import epoch_batches, passes_per_step
from vl_absvit.tasks.model_card import model_card
from vl_absvit.tasks.pairs import PairsTask, judge_captions, pairs_of
from vl_absvit.tasks.registry import open_checkpoint
from vl_absvit.tasks.vl_checkpoint import datasets_trained_on
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator, train
from vl_absvit.training.optim import param_groups
from vl_absvit.training.run_dir import open_run
from vl_absvit.variants import VARIANTS


@pytest.fixture
def make(world, tmp_path):
    return lambda **parts: PairsTask(tiny_pairs_config(world, tmp_path / "run", **parts))


def step_of(task, epoch=0, step=0):
    """The passes of a step."""
    passes = passes_per_step(task.config.optim, 1)
    return list(itertools.islice(epoch_batches(task.config, task.train_set, epoch, step, 0, 1), passes))


@pytest.mark.parametrize("top_down", VARIANTS)
def test_every_trainable_parameter_has_a_rate_and_a_gradient(make, top_down):
    task = make(vision=tiny_vision(top_down=top_down))
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, *step_of(task))
    sum(losses.values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert list(losses) == ["mlm", "itm", "prior", *(["reconstruction"] if VARIANTS[top_down].feeds_back else [])]


def test_the_log_says_what_is_hidden_and_how_often_sources_are_read(make, caplog):
    caplog.set_level("INFO")
    task = make()
    assert "coco is read 1.60 times" in caplog.text  # two epochs of two steps of eight, of twenty captions
    assert 0.1 < task.train_set.hidden_share() < 0.25 and "% of the words' tokens" in caplog.text


def test_half_of_every_global_batch_is_false_whatever_the_passes(make):
    for size in (None, 4, 1):
        batches = step_of(make(micro_batch_size=size))
        shown = np.concatenate([batch.shown for batch in batches])
        assert Counter(shown.tolist()) == {TRUE: 4, FALSE_IMAGE: 2, FALSE_CAPTION: 2}


@pytest.mark.parametrize("size", [4, 2, 1])
def test_every_pass_reads_a_caption_and_looks_at_an_image_beside_its_own_whatever_it_needs(make, size):
    """Where processes did it unequally often, those that divide a model among them would wait for each other."""
    task = make(micro_batch_size=size)
    batches = step_of(task)
    assert size == 4 or any(not (batch.shown == FALSE_CAPTION).any() for batch in batches)
    for ahead in task.look_ahead(batches, range(len(batches))):
        assert len(ahead.hard.captions.token_ids) and len(ahead.hard.images)


def test_false_pairs_are_false_and_true_ones_true(make):
    task = make()
    model = task.model.eval()
    (batch,) = step_of(task)
    own = len(batch.image_index)
    with torch.no_grad():
        texts = model.encode_texts(torch.cat([batch.token_ids, batch.hidden_ids]), batch.is_token.repeat(2, 1))
        first = model.vision.look_once(batch.images)
        hard = task.draw_false(model, texts, first, batch)
        pairs = pairs_of(texts, batch, hard)
    assert isinstance(pairs, Pairs) and pairs.hidden.pairs == own
    torch.testing.assert_close(pairs.compared, texts.prior[:own])
    torch.testing.assert_close(pairs.texts.tokens[:own, : texts.tokens.shape[1]], texts.tokens[own:])
    assert torch.equal(pairs.image_index[:own], batch.image_index)
    same_text = [torch.equal(pairs.texts.prior[own + row], texts.prior[row]) for row in range(own)]
    same_image = (pairs.image_index[own:] == batch.image_index).tolist()
    assert same_text == (batch.shown != FALSE_CAPTION).tolist()
    assert same_image == (batch.shown != FALSE_IMAGE).tolist()


def test_words_are_guessed_at_hidden_places_as_by_a_complete_pass(make):
    """Against both passes written out: all text tokens, the whole decoder, and the places taken at the end."""
    task = make()
    model = task.model.eval()
    (batch,) = step_of(task)
    losses = task.losses(model, batch)
    with torch.no_grad():
        texts = model.encode_texts(batch.hidden_ids, batch.is_token)
        looks = model.vision.look_twice(batch.images[batch.image_index], texts.prior)
        fused = model.fusion(texts.tokens, texts.is_token, looks.second.tokens)
        logits = model.head.mlm(fused.text).flatten(0, 1)[batch.positions]
    torch.testing.assert_close(losses["mlm"], F.cross_entropy(logits, batch.answers))
    assert len(batch.answers) >= len(batch.image_index)
    assert torch.equal(batch.token_ids.flatten()[batch.positions], batch.answers)


def gradients(task):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(task.config.run)
    accelerator.gradient_accumulation_steps = passes_per_step(task.config.optim, 1)
    batches = step_of(task)
    parts = accumulate_gradients(task, task.model.train(), accelerator, batches, range(len(batches)))
    terms = {name: sum(part[name].item() for part in parts) / len(parts) for name in parts[0]}
    return terms, torch.cat([each.grad.flatten() for each in task.model.parameters() if each.grad is not None])


@pytest.fixture
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.mark.usefixtures("_on_the_cpu")
@pytest.mark.parametrize("size", [4, 2, 1])
def test_a_step_in_passes_has_the_losses_and_the_gradient_of_one(make, size):
    (whole, expected), (terms, found) = gradients(make()), gradients(make(micro_batch_size=size))
    assert terms == pytest.approx(whole, rel=1e-4)
    assert (found - expected).norm() < 1e-3 * expected.norm()


def trained(world, output) -> dict[str, torch.Tensor]:
    AcceleratorState._reset_state(reset_partial_state=True)
    config = tiny_pairs_config(world, output)
    accelerator, task = make_accelerator(config.run), PairsTask(config)
    train(config, task, accelerator, open_run(config))
    return {name: parameter.detach() for name, parameter in task.model.named_parameters()}


@pytest.mark.slow
@pytest.mark.usefixtures("_on_the_cpu")
def test_two_processes_train_as_one(world, tmp_path):
    expected = trained(world, tmp_path / "one")
    for weights in run_on_ranks(trained, 2, world, tmp_path / "two"):
        # The gradient of a key's bias is 0 but for rounding, which AdamW makes as large as any other.
        for name, weight in weights.items():
            if name.endswith(("qkv.bias", "key.bias")):
                continue
            torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    for line, other in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert line == pytest.approx(other, rel=2e-3, abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("_on_the_cpu")
def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(world, tmp_path):
    config = tiny_pairs_config(world, tmp_path / "whole", dropout=0.1)
    finish(config, PairsTask(config))
    stopped = replace(config, run=replace(config.run, output=str(tmp_path / "stopped")))
    task = PairsTask(stopped)
    losses, left = task.losses, iter(range(len(task.train_set) // 8))

    def limited(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return losses(*arguments)

    task.losses = limited
    with pytest.raises(KeyboardInterrupt):
        finish(stopped, task)
    resumed = replace(stopped, run=replace(stopped.run, resume=True))
    finish(resumed, PairsTask(resumed, tmp_path / "stopped/checkpoints/last"))
    assert_same_end(tmp_path / "whole", tmp_path / "stopped")


def finish(config, task):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    train(config, task, accelerator, open_run(config))


def test_evaluation_hides_the_same_words_and_shows_the_same_false_images(make):
    task = make()
    rows = list(range(len(task.select_set)))
    one, other = (task.select_set.collate(task.select_set.__getitems__(rows)) for _ in range(2))
    task.select_set.set_epoch(5)
    assert torch.equal(one.hidden_ids, other.hidden_ids) and torch.equal(one.false_index, other.false_index)
    assert not (one.image_ids[one.false_index] == one.image_ids[one.image_index]).any()
    scores = task.evaluate(task.model.eval())
    assert scores["accuracy"] == pytest.approx((scores["mlm_accuracy"] + scores["itm_accuracy"]) / 2)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["mlm_loss"]))
    assert abs(scores["mlm_loss"] - math.log(task.num_labels)) < 1.5


def judged_one_by_one(task):
    """Every caption of the selection set alone, each way of looking by a pass of its own."""
    model, vision, rows = task.model, task.model.vision, []
    for row in range(len(task.select_set)):
        batch = task.select_set.collate(task.select_set.__getitems__([row]))

        def words(prior, again=True, batch=batch):
            first = vision.look_once(batch.images[batch.image_index])
            with strength(vision, trained_strength(vision) if again else 0.0):
                seen = vision.look_again(first, prior).seen(None)
            masked = model.encode_texts(batch.hidden_ids, batch.is_token)
            fused = model.fusion(masked.tokens, masked.is_token, seen)
            return model.head.mlm(fused.text).flatten(0, 1)[batch.positions]

        def score(rows, batch=batch):
            out = model(batch.images, batch.token_ids, batch.is_token, rows).logits
            return (out[0, 1] - out[0, 0]).item()

        own = model.encode_texts(batch.hidden_ids, batch.is_token).prior
        other = model.encode_texts(batch.other_ids, batch.is_other).prior
        guesses = [words(own), words(own, again=False), words(other)]
        right = [(each.argmax(dim=1) == batch.answers).sum().item() for each in guesses]
        loss = F.cross_entropy(guesses[0], batch.answers, reduction="sum").item()
        rows.append((0, len(batch.answers), loss, *right, score(batch.image_index), score(batch.false_index)))
    return JudgedCaptions(*np.array(rows).T)


@torch.no_grad()
def test_captions_are_judged_with_the_prior_without_it_and_with_another_as_one_by_one(make):
    task = make()
    torch.manual_seed(3)
    for parameter in task.model.parameters():  # so that everything counts
        parameter.add_(torch.randn_like(parameter) * 0.1)
    task.model.eval()
    expected = judged_one_by_one(task)
    rows = list(range(len(task.select_set)))
    batch = task.select_set.collate(task.select_set.__getitems__(rows))
    found = JudgedCaptions(*np.array(judge_captions(task.model, task.model.vision, batch)).T)
    for name, one, other in zip(found._fields, found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=name)
    assert task.evaluate(task.model) == pytest.approx(pair_scores(expected), abs=1e-3)
    assert {"mlm_accuracy_without_prior", "mlm_accuracy_other_prior", "itm_auc"} < pair_scores(expected).keys()


def test_the_other_caption_is_of_the_false_image_and_says_something_else(make):
    data = make().select_set
    batch = data.collate(data.__getitems__(list(range(len(data)))))
    first_of = {}
    for row in range(len(data)):
        first_of.setdefault(int(data.image_ids[row]), row)
    for row, false in enumerate(batch.image_ids[batch.false_index].tolist()):
        other = data.__getitems__([first_of[false]])[0].hidden.token_ids
        assert batch.other_ids[row][batch.is_other[row]].tolist() == other
        assert other != data.__getitems__([row])[0].hidden.token_ids


@pytest.mark.parametrize("top_down", VARIANTS)
def test_what_a_prior_is_worth_is_said_of_variants_that_have_one(make, top_down):
    task = make(vision=tiny_vision(top_down=top_down))
    scores, variant = task.evaluate(task.model.eval()), VARIANTS[top_down]
    assert ("mlm_accuracy_other_prior" in scores) == variant.uses_prior
    assert ("mlm_accuracy_without_prior" in scores) == (variant.uses_prior and variant.feeds_back)


def test_sources_are_mixed_told_apart_and_written_down(world, tmp_path, make):
    other = PairSource(data=str(world / "prepared/flickr30k"), weight=1.0, select_split="val")
    task = make(sources=(other,), weight=3.0)
    (batch,) = step_of(task)
    assert Counter(batch.sources.tolist()) == {0: 6, 1: 2}
    scores = task.evaluate(task.model.eval())
    assert {"mlm_accuracy/coco", "itm_accuracy/flickr30k"} < scores.keys()
    assert sorted(datasets_trained_on(task.training)) == ["coco", "flickr30k"]
    assert {"flickr30k/train", "flickr30k/val", "train", "val"} <= task.training["content"].keys()
    task.save(folder := folder_at(tmp_path / "saved"))
    assert "pretraining on pairs" in model_card(folder, "mine") and open_checkpoint(folder).model.head.mlm is not None
    again = tiny_pairs_config(world, tmp_path / "run", sources=(other,), weight=3.0)
    PairsTask(again, folder).check_saved(folder)
    with pytest.raises(ConfigError, match="some have a weight, some have none"):
        make(sources=(other,))
    with pytest.raises(ConfigError, match="flickr30k: splits are empty; name those to train on"):
        replace(other, splits=())
    with pytest.raises(ConfigError, match="name a folder twice"):
        make(sources=(replace(other, data=f"{world}/prepared/../prepared/coco/"),), weight=1.0)


def folder_at(path):
    path.mkdir()
    return path


def test_what_was_pretrained_starts_other_tasks(world, tmp_path, make):
    task = make()
    task.save(folder_at(tmp_path / "pairs"))
    config = replace(tiny_vqa_config(world, tmp_path / "vqa"), from_checkpoint=str(tmp_path / "pairs"))
    started = VQATask(config).model
    assert torch.equal(started.fusion.text_transform.weight, task.model.fusion.text_transform.weight)
    again = make(from_checkpoint=str(tmp_path / "pairs")).model  # its heads go on, too
    assert all(torch.equal(weight, task.model.state_dict()[name]) for name, weight in again.state_dict().items())


def test_odd_batches_and_second_looks_are_refused(world, tmp_path):
    config = tiny_pairs_config(world, tmp_path)
    with pytest.raises(ConfigError, match="optim.batch_size is 7, but half of the pairs are false"):
        replace(config, optim=replace(config.optim, batch_size=7))
    with pytest.raises(ConfigError, match="pretraining shares the first look"):
        replace(config, prior=replace(config.prior, look="second"), vision=tiny_vision(mask="cosine"))


def test_a_config_with_sources_is_what_it_says_after_a_round_trip(world, tmp_path):
    other = PairSource(data="data/vg", weight=1.0, splits=("train", "val"))
    config = tiny_pairs_config(world, tmp_path / "run", sources=(other,), weight=2.0)
    file = write_config(config, tmp_path / "c.yaml")
    assert parse_run_config(PairsConfig, ["--config", str(file)]) == config
