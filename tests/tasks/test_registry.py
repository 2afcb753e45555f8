"""A task that is defined here and registered: it trains, goes on, is planned, opened and evaluated as any other."""

import json
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState

from tests.run_folders import metrics
from tests.tiny_vqa import tiny_vqa_config, write_config
from vl_absvit.cli import parse_run_config
from vl_absvit.config import VisionLanguageConfig
from vl_absvit.config.checks import below_one
from vl_absvit.data.collate import VQABatch
from vl_absvit.data.records import VQAV2
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.planning.counter import Counter
from vl_absvit.planning.step import build_model, find_facts, make_batch, run_pass
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import About, selection_loader
from vl_absvit.tasks.facts import Words, sum_of_counts
from vl_absvit.tasks.model_card import model_card
from vl_absvit.tasks.registry import TASKS, find_task, open_checkpoint, task_of
from vl_absvit.tasks.vision_language import VisionLanguageTask, made_up_texts
from vl_absvit.tasks.vqa import make_dataset
from vl_absvit.training.evaluated import evaluate_checkpoint
from vl_absvit.training.loop import launch


@dataclass(frozen=True, kw_only=True)
class ThirdsConfig(VisionLanguageConfig):
    """Telling in which third of the vocabulary a question's best answer is."""

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one("config", label_smoothing=self.label_smoothing)


class ThirdsTask(VisionLanguageTask):
    """Needs what any task of its own needs: a config, data, a head, a loss, a metric, and a batch made up."""

    kind, head_kind, config_class, select_metric = "thirds", "snli", ThirdsConfig, "thirds"
    about = About("telling thirds", None, "scripts/evaluate_thirds.py --checkpoint {name}")

    def read_data(self):
        data, seed = self.config.data, self.config.run.seed
        make = lambda splits, **how: make_dataset(data.root, splits, self.tokenizer, 1000, self.preprocessing, **how)  # noqa: E731
        return make(data.train_splits, training=True, seed=seed), make([data.select_split])

    @classmethod
    def head(cls, config, labels):
        return {"kind": "snli"}

    @classmethod
    def data_sizes(cls, config):
        return sum_of_counts(config.data, VQAV2, "kept_for_training"), None

    @classmethod
    def made_up_batch(cls, config, facts, samples):
        rows, size = torch.arange(samples), config.vision.image_size
        texts = made_up_texts(config, facts, samples)
        return VQABatch(torch.rand(samples, 3, size, size), rows, rows, *texts, torch.rand(samples, 1000), rows)

    def losses(self, model, batch, step_prior=None):
        out = self.read(model, batch)
        loss = F.cross_entropy(out.logits.float(), thirds(batch), label_smoothing=self.config.label_smoothing)
        return {"thirds": loss} | self.auxiliary_terms(out, batch, step_prior)

    @torch.no_grad()
    def evaluate(self, model):
        with arithmetic(self.config.run.precision, torch.device("cpu")):
            return {"thirds": right(self.model, selection_loader(self.config, self.select_set))}


def thirds(batch: VQABatch) -> torch.Tensor:
    return batch.soft_answers.argmax(dim=1) % 3


def right(model: VLAbSViT, loader) -> float:
    """Percent of questions."""
    found = [
        model(batch.images, batch.token_ids, batch.is_token, batch.image_index).logits.argmax(1) == thirds(batch)
        for batch in loader
    ]
    return 100 * torch.cat(found).float().mean().item()


@pytest.fixture
def config(world, tmp_path, monkeypatch) -> ThirdsConfig:
    """Of a tiny run of the task, which is known from here on."""
    monkeypatch.setitem(TASKS, ThirdsTask.kind, ThirdsTask)
    vqa = tiny_vqa_config(world, tmp_path / "run", micro_batch_size=6)
    parts = {name: getattr(vqa, name) for name in ("data", "run", "vision", "text", "fusion", "optim")}
    return ThirdsConfig(**parts, label_smoothing=0.1)


def run(monkeypatch, file: Path, *options: str) -> None:
    """As a script of one line would, by the command line."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys, "argv", ["thirds", "--config", str(file), *options])
    task = find_task(str(file), [])
    launch(parse_run_config(task.config_class), task)


def test_a_task_of_its_own_trains_goes_on_is_opened_and_evaluated(config, tmp_path, monkeypatch):
    file, folder = write_config(config, tmp_path / "thirds.yaml"), tmp_path / "run/checkpoints/best"
    run(monkeypatch, file)
    steps = [line for line in metrics(tmp_path / "run") if "thirds" in line]
    assert len(steps) == 10 and {"thirds", "prior", "reconstruction"} <= set(steps[0])
    best = max(line["select/thirds"] for line in metrics(tmp_path / "run") if "select/thirds" in line)
    run(monkeypatch, file, "--run.resume", "true")
    assert json.loads((folder / "training.json").read_text())["task"] == "thirds"
    assert "telling thirds" in model_card(folder, "mine")

    def tell(arguments, found):
        task = ThirdsTask.without_data(config, found.checkpoint.model)
        task.tokenizer, task.preprocessing = found.checkpoint.tokenizer, found.checkpoint.preprocessing
        loader = selection_loader(config, task.read_data()[1])
        arguments.output.write_text(str(right(found.checkpoint.model, loader)))

    AcceleratorState._reset_state(reset_partial_state=True)
    with torch.no_grad():
        evaluate_checkpoint(Namespace(checkpoint=str(folder), output=tmp_path / "out"), open_checkpoint, tell)
    assert float((tmp_path / "out").read_text()) == pytest.approx(best)


def test_a_task_of_its_own_is_planned(config):
    assert task_of(config) is ThirdsTask
    facts = find_facts(config)
    assert facts.samples > 0 and isinstance(facts.text, Words) and facts.assumed == ()
    counted = Counter(config, facts, "cpu").count(2, 2, precision="fp32", checkpointing=False)
    assert counted.flops > 0 and counted.peak_bytes > 0
    model = build_model(config, facts)
    run_pass(config, facts, model, make_batch(config, facts, 2, torch.device("cpu")))
    assert all(weight.grad is not None for weight in model.parameters())


def test_kinds_are_names_and_configs_tell_tasks_apart():
    assert all(name == task.kind for name, task in TASKS.items())
    assert len({task.config_class for task in TASKS.values()}) == len(TASKS)
