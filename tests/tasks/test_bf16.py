"""Every task in bf16: it trains, is evaluated, goes on, and its commands give the numbers of its training."""

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.run_folders import assert_same_end, metrics
from tests.run_script import run_script
from tests.tiny_tasks import KINDS as OTHER_KINDS
from tests.tiny_tasks import tiny_config
from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.config import PriorConfig, TaskConfig
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.base import Task, epoch_batches, passes_per_step
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.prior_losses import Compared, global_prior_loss, step_prior_losses
from vl_absvit.tasks.registry import task_of
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator, train
from vl_absvit.training.run_dir import open_run
from vl_absvit.variants import VARIANTS

TASKS = {"vqa": VQATask, "retrieval": RetrievalTask, "pretraining": ClassificationTask}
CONFIGS = {"vqa": tiny_vqa_config, "retrieval": tiny_retrieval_config, "pretraining": tiny_pretrain_config}
PASSES = {"vqa": 3, "retrieval": 2, "pretraining": 2}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def config_of(kind: str, world: Path, output: Path, passes: int = 1, **parts) -> TaskConfig:
    config = CONFIGS[kind](world, output, **parts)
    size = config.optim.batch_size // passes
    return replace(
        config, run=replace(config.run, precision="bf16"), optim=replace(config.optim, micro_batch_size=size)
    )


def gradients_of_a_step(task: Task) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Mean losses of one optimizer step and every trainable parameter's gradient."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, config = make_accelerator(task.config.run), task.config
    accelerator.gradient_accumulation_steps = passes = passes_per_step(config.optim, 1)
    batches = list(itertools.islice(epoch_batches(config, task.train_set, 0, 0, 0, 1), passes))
    task.model.train().zero_grad()
    parts = accumulate_gradients(task, task.model, accelerator, batches, range(passes))
    gradients = {name: each.grad for name, each in task.model.named_parameters() if each.requires_grad}
    return {name: sum(part[name].item() for part in parts) / passes for name in parts[0]}, gradients


KINDS = [*itertools.product(TASKS, ["absvit"]), *(("vqa", each) for each in VARIANTS if each != "absvit")]


@pytest.mark.parametrize(
    ("kind", "top_down"), [pytest.param(*each, marks=() if each[1] == "absvit" else pytest.mark.slow) for each in KINDS]
)
def test_a_step_of_one_and_of_several_passes_is_finite_and_the_same_in_bf16(world, tmp_path, kind, top_down):
    parts = {"vision": tiny_vision(top_down=top_down, mask="cosine" if kind == "pretraining" else "calibrated")}
    losses, gradients = [], []
    for passes in (1, PASSES[kind]):
        task = TASKS[kind](config_of(kind, world, tmp_path, passes, **parts))
        terms, found = gradients_of_a_step(task)
        losses.append(terms)
        gradients.append(found)
        assert all(each is not None and each.isfinite().all() for each in found.values())
        assert all(each.dtype == torch.float32 for each in found.values())
    if top_down == "feedback":  # reconstructs images, of which passes have unequal numbers
        for terms, found in zip(losses, gradients, strict=True):
            del terms["reconstruction"]
            [found.pop(name) for name in list(found) if "decoders" in name]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    one, several = (torch.cat([each.flatten() for each in found.values()]) for found in gradients)
    assert (several - one).norm() < 0.01 * one.norm()
    scores = task.evaluate(task.model.eval())
    assert all(0 <= score <= 100 for score in scores.values())


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_step_on_pairs_and_statements_is_finite_and_the_same_in_bf16(world, tmp_path, kind):
    losses, gradients = [], []
    for passes in (1, 2):
        config = tiny_config(kind, world, tmp_path, tmp_path / "run")
        optim = replace(config.optim, micro_batch_size=config.optim.batch_size // passes)
        config = replace(config, run=replace(config.run, precision="bf16"), optim=optim)
        task = task_of(config)(config)
        terms, found = gradients_of_a_step(task)
        losses.append(terms)
        gradients.append(torch.cat([each.flatten() for each in found.values()]))
        assert all(each.isfinite().all() and each.dtype == torch.float32 for each in found.values())
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert (gradients[1] - gradients[0]).norm() < 0.02 * gradients[0].norm()
    assert all(math.isfinite(score) for score in task.evaluate(task.model.eval()).values())


@pytest.mark.parametrize("look, pool", [("first", "lse"), ("first", "mean"), ("second", "lse")])
def test_the_prior_loss_of_several_passes_in_bf16_is_that_of_one(look, pool):
    config = PriorConfig(look=look, pool=pool)
    prior = torch.randn(8, 16).bfloat16().float().requires_grad_()
    tokens, rows = torch.randn(8, 5, 16).requires_grad_(), torch.arange(8)
    threshold = torch.full((1,), 0.1, requires_grad=True)
    whole = global_prior_loss(Compared(prior, tokens, rows, rows, 1, threshold), config)
    *expected, of_threshold = torch.autograd.grad(whole, (prior, tokens, threshold))
    halves = zip(prior.detach().bfloat16().split(4), tokens.detach().split(4), rows.split(4), strict=True)
    passes = [Compared(*of_pass, rows[:4], ids, 1, threshold) for *of_pass, ids in halves]
    with torch.no_grad(), arithmetic("bf16", CPU):
        steps = step_prior_losses(passes, config)
    assert all(torch.equal(step.value, whole) for step in steps)
    for name, gradient in zip(("of_prior", "of_tokens"), expected, strict=True):
        torch.testing.assert_close(torch.cat([getattr(step, name) for step in steps]) / 2, gradient)
    for step in steps:
        torch.testing.assert_close(step.of_threshold, of_threshold)


def finish(config: TaskConfig, kind: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    train(config, TASKS[kind](config), make_accelerator(config.run), open_run(config))


def command_of(kind: str, config: TaskConfig, output: Path) -> tuple[list[object], str]:
    """The evaluation of the last checkpoint that the run itself made, and the entry of the result with its score."""
    last, data = Path(config.run.output) / "checkpoints/last", config.data
    batch = ["--batch-size", config.optim.micro_batch_size]
    if kind == "vqa":
        return ["evaluate_vqa", last, data.root, "--split", data.select_split, *batch], "accuracy"
    if kind == "retrieval":
        return ["evaluate_retrieval", last, data.root, "--split", data.select_split, "--shortlist", 2], "tr_r1"
    return ["evaluate_vision", last, Path(data.root) / data.select_split, *batch], "top1"


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_a_run_in_bf16_goes_on_exactly_and_its_command_gives_its_numbers(world, tmp_path, kind):
    config = config_of(kind, world, tmp_path / "run", PASSES[kind])
    finish(config, kind)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    shutil.rmtree(copy / "checkpoints/last")
    (copy / "checkpoints/last.previous").rename(copy / "checkpoints/last")
    finish(replace(config, run=replace(config.run, output=str(copy), resume=True)), kind)
    assert_same_end(copy, tmp_path / "run")

    (script, checkpoint, data, *options), score = command_of(kind, config, tmp_path)
    output = tmp_path / "result.json"
    arguments = ["--checkpoint", checkpoint, "--data", data, "--output", output, "--num-workers", 0, *options]
    assert run_script(f"scripts/{script}.py", *arguments, "--precision", "bf16") == 0
    result = json.loads((tmp_path / "result.about.json" if kind == "vqa" else output).read_text())
    selected = [line for line in metrics(tmp_path / "run") if f"select/{score}" in line][-1]
    assert result[score] == pytest.approx(selected[f"select/{score}"], abs=1e-3)
    assert result["precision"] == "bf16"
