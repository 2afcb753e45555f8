"""The VQA task: weighted losses, gradients everywhere, official accuracy, checkpoints, two processes like one."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from tests.damage import cut_short, removed, replaced
from tests.distributed_helper import run_on_ranks
from tests.tiny_vqa import tiny_vision, tiny_vqa_config
from vl_absvit.config import LossConfig, PriorConfig
from vl_absvit.data.answers import AnswerVocabulary
from vl_absvit.data.records import read_annotations
from vl_absvit.errors import InputError
from vl_absvit.evaluation.vqa_accuracy import question_accuracy
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.vl_checkpoint import datasets_trained_on
from vl_absvit.tasks.vqa import VQATask, load_checkpoint
from vl_absvit.training.loop import make_accelerator, train
from vl_absvit.training.optim import param_groups
from vl_absvit.training.run_dir import open_run
from vl_absvit.variants import VARIANTS


@pytest.fixture
def task(world, tmp_path):
    return VQATask(tiny_vqa_config(world, tmp_path))


def first_batch(task):
    return next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))


def test_losses_are_weighted_once_and_a_zero_weight_removes_a_loss(task):
    batch = first_batch(task)
    losses = {}
    for name, weights in {
        "all": LossConfig(prior=1.0, reconstruction=1.0, transform=1.0),
        "tripled": LossConfig(prior=3.0, reconstruction=3.0, transform=3.0),
        "none": LossConfig(prior=0.0, reconstruction=0.0),
    }.items():
        task.config = replace(task.config, loss=weights)
        losses[name] = task.losses(task.model, batch)
    assert list(losses["all"]) == ["vqa", "prior", "reconstruction", "transform"] and list(losses["none"]) == ["vqa"]
    torch.testing.assert_close(losses["tripled"]["vqa"], losses["all"]["vqa"])
    for name in ("prior", "reconstruction", "transform"):
        torch.testing.assert_close(losses["tripled"][name], 3 * losses["all"][name])


@pytest.mark.parametrize("top_down, start", [*((name, 0) for name in VARIANTS), ("absvit", 1)])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_every_trainable_parameter_has_a_rate_and_a_gradient(world, tmp_path, top_down, start, weight):
    vision = tiny_vision(top_down=top_down, looks_again_from=start)
    config = tiny_vqa_config(world, tmp_path, vision=vision, loss=LossConfig(prior=weight, reconstruction=weight))
    task = VQATask(config)
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, first_batch(task))
    sum(losses.values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.requires_grad and p.grad is None] == []
    auxiliary = {"prior": VARIANTS[top_down].uses_prior, "reconstruction": VARIANTS[top_down].feeds_back}
    assert list(losses) == ["vqa", *(name for name, has_use in auxiliary.items() if weight and has_use)]


@pytest.mark.parametrize("top_down", ["mask_att", "absvit", "absvit_qkv"])
def test_every_parameter_has_a_gradient_where_the_second_look_is_compared(world, tmp_path, top_down):
    config = tiny_vqa_config(world, tmp_path, vision=tiny_vision(top_down=top_down), prior=PriorConfig(look="second"))
    task = VQATask(config)
    sum(task.losses(task.model, first_batch(task)).values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "top_down, left_out",
    [
        ("none", ["loss.prior", "loss.reconstruction"]),
        ("perceiver_io", ["loss.reconstruction"]),
        ("feedback", ["loss.prior"]),
        ("mask_att", ["loss.reconstruction"]),
        ("absvit", []),
        ("absvit_qkv", []),
    ],
)
def test_losses_that_train_nothing_are_left_out_and_it_is_said(world, tmp_path, caplog, top_down, left_out):
    caplog.set_level("INFO")
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(top_down=top_down)))
    said = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert [line.split(", ")[-1] for line in said] == [f"{name} is left out" for name in left_out]
    assert all(f"vision.top_down {top_down}" in line for line in said)
    caplog.clear()
    silent = LossConfig(prior=0.0, reconstruction=0.0)
    VQATask(tiny_vqa_config(world, tmp_path, vision=tiny_vision(top_down=top_down), loss=silent))
    assert "left out" not in caplog.text


def test_evaluation_is_the_official_accuracy_of_every_question_once(task, world):
    class AlwaysYes(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images, token_ids, is_token, image_index):
            logits = torch.zeros(len(token_ids), len(task.vocabulary))
            logits[:, task.vocabulary.index["yes"]] = 1
            return SimpleNamespace(logits=logits)

    scores = task.evaluate(AlwaysYes())
    annotations = read_annotations(world / "prepared", ["minival"])
    expected = [question_accuracy("yes", record["answers"]) for record in annotations]
    assert scores["accuracy"] == pytest.approx(100 * sum(expected) / len(expected), abs=0.005)
    assert scores.get("accuracy/number", 0.0) == 0.0


def test_nothing_is_evaluated_where_nothing_selects(world, tmp_path):
    config = tiny_vqa_config(world, tmp_path)
    config = replace(config, data=replace(config.data, train_splits=("train", "minival", "val"), select_split=None))
    assert VQATask(config).evaluate(nn.Identity()) is None


def test_a_saved_checkpoint_answers_alike(task, tmp_path):
    task.save(tmp_path)
    loaded = load_checkpoint(tmp_path)
    batch, task.model = first_batch(task), task.model.eval()
    inputs = (batch.images, batch.token_ids, batch.is_token, batch.image_index)
    torch.testing.assert_close(loaded.model(*inputs).logits, task.model(*inputs).logits, rtol=0, atol=0)
    assert loaded.vocabulary == task.vocabulary and loaded.preprocessing == task.preprocessing
    question = "what color is the small circle?"
    assert loaded.tokenizer(question)["input_ids"] == task.tokenizer(question)["input_ids"]
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.p*kl"))


def changed(name, **entries):
    """A damage that changes entries of a JSON file, ``vision`` by its own entries."""

    def damage(folder):
        content = json.loads((folder / name).read_text())
        content |= {k: content[k] | v if k == "vision" else v for k, v in entries.items()}
        (folder / name).write_text(json.dumps(content))

    return damage


def a_pickle_for_weights(folder):
    torch.save({"a": torch.ones(1)}, folder / "model.safetensors")


def fewer_answers(folder):
    vocabulary = AnswerVocabulary.load(folder / "answers.json")
    replace(vocabulary, answers=vocabulary.answers[:-1]).save(folder / "answers.json")


FILES = (
    "config.json",
    "answers.json",
    "model.safetensors",
    "tokenizer.json",
    "preprocessor_config.json",
    "training.json",
)


@pytest.mark.parametrize(
    "damage",
    [
        *map(removed, FILES),
        replaced("config.json", "[]"),
        replaced("config.json", '{"model_type": "bert"}'),
        changed("config.json", vision={"width": 32}),
        changed("config.json", vision={"model": "vit_tiny"}),
        cut_short("model.safetensors"),
        a_pickle_for_weights,
        fewer_answers,
        replaced("tokenizer.json", "{}"),
        replaced("training.json", '{"start": null}'),
        changed("preprocessor_config.json", size=224),
        changed("preprocessor_config.json", image_size=64),
        changed("preprocessor_config.json", image_size="32"),
        changed("preprocessor_config.json", image_mean=[0.5, 0.5]),
        changed("preprocessor_config.json", image_std=0.5),
        changed("preprocessor_config.json", max_tokens=1000),
    ],
)
def test_a_checkpoint_that_is_not_one_is_one_clear_line(task, tmp_path, damage):
    task.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        load_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_going_on_with_another_vocabulary_is_refused(task, tmp_path):
    task.save(tmp_path)
    task.check_saved(tmp_path)
    task.vocabulary = replace(task.vocabulary, answers=task.vocabulary.answers[::-1])
    with pytest.raises(InputError, match="another answer vocabulary"):
        task.check_saved(tmp_path)


def train_vqa(config) -> dict[str, torch.Tensor]:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    task = VQATask(config)
    train(config, task, accelerator, open_run(config))
    return {name: parameter.detach() for name, parameter in task.model.named_parameters()}


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_second"} for line in lines]


def train_with_each_look(
    world: Path, output: Path, micro_batch_size: int | None = None
) -> list[dict[str, torch.Tensor]]:
    """With the mask that goes with each look: calibrated, as the recipes have it, and the paper's."""
    masks = {"first": "calibrated", "second": "cosine"}
    return [
        train_vqa(
            tiny_vqa_config(
                world,
                output / look,
                vision=tiny_vision(mask=mask),
                prior=PriorConfig(look=look),
                micro_batch_size=micro_batch_size,
            )  # fmt: skip
        )
        for look, mask in masks.items()
    ]


def check_metrics(folder: Path, expected_folder: Path) -> None:
    for look in ("first", "second"):
        for line, expected in zip(metrics(folder / look), metrics(expected_folder / look), strict=True):
            assert line == pytest.approx(expected, rel=2e-4), look


def test_the_priors_of_other_passes_are_negatives(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    task = VQATask(tiny_vqa_config(world, tmp_path, micro_batch_size=1, loss=LossConfig(reconstruction=0.0)))
    batches = list(itertools.islice(epoch_batches(task.config, task.train_set, 0, 0, 0, 1), 4))
    alone = task.losses(task.model, batches[0])["prior"]
    assert alone.item() == pytest.approx(0.0, abs=1e-6), "one image has no negatives"
    together = task.losses(task.model, batches[0], task.look_ahead(batches, seeds=range(4))[0])["prior"]
    assert together.item() > 0.1


def test_dropout_is_the_same_when_a_pass_is_looked_at_ahead(world, tmp_path):
    task = VQATask(tiny_vqa_config(world, tmp_path, micro_batch_size=6, dropout=0.5))
    batches = list(itertools.islice(epoch_batches(task.config, task.train_set, 0, 0, 0, 1), 2))
    seen = []
    task.model.train().prior.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    task.look_ahead(batches, seeds=[5, 6])
    for batch, seed in zip(batches, (5, 6), strict=True):
        torch.manual_seed(seed)
        task.losses(task.model, batch)
    for ahead, then in zip(seen[:2], seen[2:], strict=True):
        torch.testing.assert_close(ahead, then, rtol=0, atol=0)


def test_a_checkpoint_starts_every_part_of_another_run_and_is_named_in_its_history(world, tmp_path):
    task = VQATask(tiny_vqa_config(world, tmp_path))
    for weight in task.model.parameters():
        torch.nn.init.normal_(weight)
    task.save(tmp_path)
    other = VQATask(replace(tiny_vqa_config(world, tmp_path), from_checkpoint=str(tmp_path)))
    for name, weight in task.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], weight), name
    assert other.training["start"] == task.training and task.training["start"] is None
    assert datasets_trained_on(other.training) == ["vqav2", "vqav2"]


def test_starting_from_a_checkpoint_of_other_words_is_refused(world, tmp_path):
    config = tiny_vqa_config(world, tmp_path)
    VQATask(config).save(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    first, second, *_ = tokenizer["model"]["vocab"]
    words = tokenizer["model"]["vocab"]
    words[first], words[second] = words[second], words[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="another vocabulary"):
        VQATask(replace(config, from_checkpoint=str(tmp_path)))


@pytest.mark.slow
def test_two_processes_and_four_passes_train_and_evaluate_like_one(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    train_with_each_look(world, tmp_path / "one")
    train_with_each_look(world, tmp_path / "four", micro_batch_size=3)
    check_metrics(tmp_path / "four", tmp_path / "one")
    first, second = run_on_ranks(train_with_each_look, 2, world, tmp_path / "two")
    for of_first, of_second in zip(first, second, strict=True):
        assert all(torch.equal(parameter, of_second[name]) for name, parameter in of_first.items())
    check_metrics(tmp_path / "two", tmp_path / "one")
    run_on_ranks(train_with_each_look, 2, world, tmp_path / "two-by-two", 3)
    check_metrics(tmp_path / "two-by-two", tmp_path / "one")
    assert any("select/accuracy" in line for line in metrics(tmp_path / "one/first"))
