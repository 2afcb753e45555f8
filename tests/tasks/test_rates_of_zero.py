"""A part whose learning rate is 0 is out of training, and the losses that train it alone are left out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.distributed_helper import run_on_ranks
from tests.tasks.test_first_look_fit import KINDS as EARLIER_KINDS
from tests.tasks.test_zeroed_losses import train_steps
from tests.tiny_pairs import tiny_pairs_config
from tests.tiny_vqa import FAST
from vl_absvit.tasks.base import Task, epoch_batches
from vl_absvit.tasks.pairs import PairsTask

KINDS = EARLIER_KINDS | {"pairs": (tiny_pairs_config, PairsTask)}


def task_of(kind: str, world: Path, output: Path, checkpoint: Path | None = None, **rates: float) -> Task:
    """A task with a weight for both losses of the decoders."""
    make, task = KINDS[kind]
    config = make(world, output)
    loss = replace(config.loss, reconstruction=1.0, transform=1.0)
    optim = replace(config.optim, learning_rates=replace(FAST, **rates))
    return task(replace(config, loss=loss, optim=optim), checkpoint)


def frozen(task: Task) -> set[str]:
    return {name for name, parameter in task.model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rates", [{"feedback": 0.0}, {"vision": 0.0}, {"vision": 0.0, "feedback": 0.0, "prior": 0.0}])
def test_a_step_moves_all_but_the_parts_at_rest(world, tmp_path, monkeypatch, caplog, kind, rates):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    caplog.set_level("INFO")
    task = task_of(kind, world, tmp_path, **rates)
    before = {name: weight.clone() for name, weight in task.model.named_parameters()}
    assert train_steps(task.config, task) == []
    kept = {name for name, weight in task.model.named_parameters() if torch.equal(weight, before[name])}
    resting = [path for path, rate in task.lr_of().items() if rate == 0]
    expected = {
        name for name in before
        if max((path for path in task.lr_of() if f"{name}.".startswith(f"{path}.")), key=len) in resting
    }  # fmt: skip
    assert frozen(task) == expected <= kept and expected
    size = sum(before[name].numel() for name in expected)
    whole = sum(weight.numel() for weight in before.values())
    assert f"frozen: {', '.join(resting)}, {size:,} of the model's {whole:,} numbers" in caplog.text
    for name in ("reconstruction", "transform"):
        said = f"the feedback decoders are out of training, loss.{name} is left out"
        assert (said in caplog.text) == ("feedback" in rates)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_to_freeze_are_those_of_a_rate_of_0_without_gradients_and_moments(world, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    by_rate = task_of(kind, world, tmp_path, vision=0.0, feedback=0.0)
    config = replace(by_rate.config, optim=replace(by_rate.config.optim, learning_rates=FAST))
    config = replace(config, optim=replace(config.optim, freeze=("vision", "feedback")))
    task = KINDS[kind][1](config)
    assert task.lr_of() == by_rate.lr_of() and frozen(task) == frozen(by_rate) != set()
    made = []
    monkeypatch.setattr(torch.optim.AdamW, "__init__", noting(made, torch.optim.AdamW.__init__))
    assert train_steps(task.config, task) == []
    (optimizer,) = made
    still = [weight for name, weight in task.model.named_parameters() if name in frozen(task)]
    assert all(weight.grad is None and weight not in optimizer.state for weight in still)
    moving = [weight for name, weight in task.model.named_parameters() if name not in frozen(task)]
    assert any(weight in optimizer.state for weight in moving)


def noting(made: list, construct):
    """A constructor that adds what it makes to a list."""

    def make(self, *args, **kwargs):
        construct(self, *args, **kwargs)
        made.append(self)

    return make


@pytest.mark.parametrize("rate", [0.0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_decoders_at_rest_have_no_losses_and_stay_so_in_going_on(world, tmp_path, kind, rate):
    task = task_of(kind, world, tmp_path, feedback=rate)
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    for each in (task, task_of(kind, world, tmp_path, tmp_path / "saved", feedback=rate)):
        assert len(frozen(each)) == (0 if rate else 4)
        batch = next(iter(epoch_batches(each.config, each.train_set, 0, 0, 0, 1)))
        terms = each.losses(each.model, batch)
        assert terms.keys() & {"reconstruction", "transform"} == ({"reconstruction", "transform"} if rate else set())


def train_all(world: str, output: str) -> list[list[str]]:
    tasks = [task_of(kind, Path(world), Path(output), feedback=0.0) for kind in KINDS]
    return [train_steps(task.config, task) for task in tasks]


@pytest.mark.slow
def test_parts_at_rest_leave_no_process_waiting_for_a_gradient(world, tmp_path):
    assert run_on_ranks(train_all, 2, str(world), str(tmp_path)) == [[[] for _ in KINDS]] * 2
