"""A loss of weight 0 takes the parameters that it alone trains out of training, on any number of processes."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.distributed_helper import run_on_ranks
from tests.tiny_segmentation import prepared_pixels, tiny_segmentation_config
from tests.tiny_tasks import tiny_config
from tests.tiny_vqa import FAST, tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.config import (
    LossConfig,
    OptimConfig,
    PairLossConfig,
    RetrievalLossConfig,
    SegmentationLossConfig,
    TaskConfig,
)
from vl_absvit.errors import ConfigError
from vl_absvit.models.heads import MatchingHead
from vl_absvit.tasks.base import Task, epoch_batches
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.registry import TASKS
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.segmentation import SegmentationTask
from vl_absvit.tasks.vl_checkpoint import load_parts
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.engines import prepare
from vl_absvit.training.loop import accumulate_gradients, make_accelerator
from vl_absvit.training.optim import build_optimizer
from vl_absvit.variants import VARIANTS

NEW = ("pairs", "nlvr2", "snli_ve")
RETRIEVAL = ("itm", "ranking", "prior", "reconstruction")


def task_of(kind: str, world: Path, output: Path, top_down: str, zeroed: tuple[str, ...]) -> Task:
    """A task with these weights 0 and all others 1."""
    vision = tiny_vision(top_down=top_down, mask="cosine" if kind in ("pretraining", "segmentation") else "calibrated")
    base = output / f"of_process_{os.environ.get('RANK', '0')}"
    if kind == "retrieval":
        loss = RetrievalLossConfig(**{name: float(name not in zeroed) for name in RETRIEVAL})
        return RetrievalTask(tiny_retrieval_config(world, output, vision=vision, loss=loss))
    if kind == "segmentation":
        loss = SegmentationLossConfig(**{name: float(name not in zeroed) for name in ("auxiliary", "reconstruction")})
        return SegmentationTask(tiny_segmentation_config(prepared_pixels(base), output, vision=vision, loss=loss))
    if kind in NEW:
        weights = {name: float(name not in zeroed) for name in ("prior", "reconstruction")}
        if kind == "nlvr2":  # a sentence is about two images: it has no prior loss
            weights["prior"] = 0.0
        loss = (PairLossConfig if kind == "pairs" else LossConfig)(**weights)
        return TASKS[kind](tiny_config(kind, world, base, output, vision=vision, loss=loss))
    loss = LossConfig(prior=float("prior" not in zeroed), reconstruction=float("reconstruction" not in zeroed))
    if kind == "vqa":
        return VQATask(tiny_vqa_config(world, output, vision=vision, loss=loss))
    return ClassificationTask(tiny_pretrain_config(world, output, vision=vision, loss=loss))


CASES = [
    *(("vqa", each, zeroed) for each in VARIANTS for zeroed in (("prior",), ("prior", "reconstruction"))),
    *(("retrieval", "absvit", (name,)) for name in RETRIEVAL),
    *(("retrieval", each, (name, "reconstruction")) for each in VARIANTS for name in ("itm", "ranking")),
    *(("retrieval", each, ("prior", "itm")) for each, variant in VARIANTS.items() if variant.uses_prior),
    *(("pretraining", each, ("reconstruction",)) for each in VARIANTS),
    *(("segmentation", each, (name,)) for each in VARIANTS for name in ("auxiliary", "reconstruction")),
    *(("pairs", each, ("reconstruction",)) for each in VARIANTS),
    *(
        ("pairs", each, zeroed)
        for each, variant in VARIANTS.items()
        if variant.uses_prior
        for zeroed in (("prior",), ("prior", "reconstruction"))
    ),
    *(("nlvr2", each, ("reconstruction",)) for each in VARIANTS),
    *(("snli_ve", each, zeroed) for each in VARIANTS for zeroed in (("prior",), ("prior", "reconstruction"))),
]


def train_steps(config: TaskConfig, task: Task, steps: int = 2) -> list[str]:
    """Take steps as the loop does; names of the parameters in training that ended a step without a gradient."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    optimizer = build_optimizer(task.model, task.lr_of(), config.optim)
    model, optimizer = prepare(accelerator, task.model, optimizer, config.optim)
    batches = epoch_batches(config, task.train_set, 0, 0, accelerator.process_index, accelerator.num_processes)
    missing = []
    for batch in itertools.islice(batches, steps):
        accumulate_gradients(task, model, accelerator, [batch], [0])
        missing += [name for name, each in task.model.named_parameters() if each.requires_grad and each.grad is None]
        optimizer.step()
        optimizer.zero_grad()
    return missing


def train_all(world: str, output: str) -> list[list[str]]:
    found = []
    for kind, top_down, zeroed in CASES:
        task = task_of(kind, Path(world), Path(output), top_down, zeroed)
        missing = train_steps(task.config, task)
        frozen = sorted({name.rsplit(".", 1)[0] for name, p in task.model.named_parameters() if not p.requires_grad})
        found.append([*missing, *(f"frozen {name}" for name in frozen)])
    return found


@pytest.mark.slow
def test_no_zeroed_loss_leaves_two_processes_waiting_for_a_gradient(world, tmp_path):
    first, second = run_on_ranks(train_all, 2, str(world), str(tmp_path))
    assert first == second
    layers = {"itm": "frozen head.itm", "ranking": "frozen head.rank"}
    for case, found in zip(CASES, first, strict=True):
        expected = [layers[name] for name in case[2] if case[0] == "retrieval" and name in layers]
        assert found == expected, case


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in (*NEW, "segmentation")])
def test_no_zeroed_loss_of_pairs_statements_and_pixels_leaves_a_parameter_without_a_gradient(
    world, tmp_path, monkeypatch, case
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    task = task_of(case[0], world, tmp_path, *case[1:])
    assert train_steps(task.config, task, steps=1) == []
    losses = task.losses(task.model, next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1))))
    assert not losses.keys() & set(case[2]) and all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("kind", ["retrieval", "pairs"])
@pytest.mark.parametrize("top_down", ["none", "feedback"])
def test_a_prior_that_nothing_would_train_is_refused(world, tmp_path, kind, top_down):
    with pytest.raises(ConfigError, match="loss.prior is 0, but nothing else trains the prior"):
        task_of(kind, world, tmp_path, top_down, ("prior",))


@pytest.mark.parametrize("name", ["mlm", "itm"])
def test_both_objectives_of_pretraining_have_a_weight(name):
    with pytest.raises(ConfigError, match=f"loss.{name} must be positive, got 0"):
        PairLossConfig(**{name: 0.0})


@pytest.mark.parametrize("zeroed, layer", [("itm", "itm"), ("ranking", "rank")])
def test_what_is_out_of_training_is_said_stays_as_it_was_and_is_saved(
    world, tmp_path, caplog, monkeypatch, zeroed, layer
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    caplog.set_level("INFO")
    task = task_of("retrieval", world, tmp_path, "absvit", (zeroed,))
    assert f"no loss trains head.{layer}.weight, head.{layer}.bias: out of training" in caplog.text
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    assert train_steps(replace(task.config, optim=OptimConfig(batch_size=4, learning_rates=FAST)), task) == []
    after = task.model.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name]) and name.startswith("head.")} == {
        f"head.{layer}.weight", f"head.{layer}.bias"
    }  # fmt: skip
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    loaded = load_parts(tmp_path / "saved", "matching").model
    assert loaded.state_dict().keys() == before.keys()
    assert loaded.head.ranks_by == ("itm" if zeroed == "ranking" else "rank")
    goes_on = RetrievalTask(task.config, tmp_path / "saved").model
    frozen = {name for name, parameter in goes_on.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"head.{layer}.weight", f"head.{layer}.bias"}


def test_a_head_without_a_ranking_loss_ranks_by_its_matching_logits():
    torch.manual_seed(0)
    own, matching = (MatchingHead(width=4, ranks_by=name) for name in ("rank", "itm"))
    matching.load_state_dict(own.state_dict())
    pooled = torch.randn(5, 8)
    scores = matching(pooled)
    torch.testing.assert_close(scores.rank.sigmoid(), scores.itm.softmax(dim=1)[:, 1])
    assert torch.equal(scores.itm, own(pooled).itm) and not torch.allclose(scores.rank, own(pooled).rank)
