"""Whole trainings of other trunks with top-down attention: all of it learns, runs go on exactly, processes agree."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end
from tests.tiny_vqa import tiny_pretrain_config
from vl_absvit.config import PretrainConfig, VisionConfig
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.training.loop import make_accelerator, train
from vl_absvit.training.run_dir import open_run

pytestmark = pytest.mark.slow

SIZES = {"image_size": 32, "width": 16, "depth": 2, "num_heads": 2, "gain": 1.0}
TRUNKS = {
    "rvt with VARS-D": {"model": "absvit_rvt_small", "attention": "vars_d"},
    "FAN": {"model": "absvit_fan_tiny"},
    "DeiT* with VARS-SD": {"model": "absvit_deit_star_tiny", "attention": "vars_sd"},
    "DeiT* with VARS-S": {"model": "absvit_deit_star_tiny", "attention": "vars_s", "vars_penalty": 0.1},
    "GFNet": {"model": "absvit_gfnet_tiny", "patch_size": 8},
}


def config_of(world: Path, output: Path, trunk: str, precision: str, micro_batch_size: int | None) -> PretrainConfig:
    """Two epochs of three steps."""
    config = tiny_pretrain_config(world, output, vision=VisionConfig(**SIZES | TRUNKS[trunk]), pooling="avg")
    optim = replace(config.optim, batch_size=120, micro_batch_size=micro_batch_size)
    return replace(config, run=replace(config.run, precision=precision), optim=optim)


def finish(config: PretrainConfig) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Every parameter before and after the training."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    run = open_run(config)
    task = ClassificationTask(config)
    before = {name: value.detach().clone() for name, value in task.model.named_parameters()}
    train(config, task, accelerator, run)
    return {name: (before[name], value.detach().clone()) for name, value in task.model.named_parameters()}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_in_bf16_every_parameter_moves_and_a_run_goes_on_exactly(world, tmp_path, monkeypatch, trunk):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    config = config_of(world, tmp_path / "run", trunk, "bf16", 60)
    for name, (before, after) in finish(config).items():
        assert after.isfinite().all() and not torch.equal(before, after), name
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    shutil.rmtree(copy / "checkpoints/last")
    (copy / "checkpoints/last.previous").rename(copy / "checkpoints/last")
    config = replace(config, run=replace(config.run, output=str(copy), resume=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(config.run)
    run = open_run(config)
    train(config, ClassificationTask(config, copy / "checkpoints/last"), accelerator, run)
    assert_same_end(copy, tmp_path / "run")


def test_two_processes_learn_what_one_learns_in_two_passes(world, tmp_path, monkeypatch):
    """A batch norm takes its statistics from a pass of a process, and both divide a batch into the same halves."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    trunk = "rvt with VARS-D"
    one = finish(config_of(world, tmp_path / "one", trunk, "fp32", 60))
    ranks = run_on_ranks(finish, 2, config_of(world, tmp_path / "two", trunk, "fp32", None))
    for name, (before, after) in one.items():
        for found in ranks:
            moved, wanted = found[name][1] - before, after - before
            assert (moved - wanted).norm() <= 0.02 * wanted.norm() + 1e-6, name
