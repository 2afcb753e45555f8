"""``finetune_vqa.py`` on stream shards: killed and gone on with, it ends as if nothing had happened."""

import re
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.run_folders import assert_same_end, metrics
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vqa_config, write_config

SCRIPT = "scripts/finetune_vqa.py"


@pytest.fixture(scope="module")
def stream(world, tmp_path_factory) -> Path:
    """Shards of the tiny world's training questions."""
    folder = tmp_path_factory.mktemp("stream") / "shards"
    arguments = ("--data", world / "prepared", "--output", folder, "--shards", 4)
    assert run_script("data_prep/write_stream_shards.py", *arguments) == 0
    return folder


def config_file(world: Path, stream: Path, folder: Path, dropout: float = 0.1) -> Path:
    """A finetuning that saves several times an epoch."""
    config = tiny_vqa_config(world, folder / "run", dropout=dropout)
    data = replace(config.data, stream=str(stream), num_workers=2)
    config = replace(config, data=data, run=replace(config.run, evaluations_per_epoch=3))
    return write_config(config, folder / "vqa.yaml")


@pytest.fixture
def launch(fork_server):
    """Run the script in processes of their own."""
    return partial(fork_server.run, SCRIPT)


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_goes_on_to_the_same_end(world, stream, tmp_path, launch):
    config = config_file(world, stream, tmp_path)
    whole = launch("--config", config, "--run.output", tmp_path / "whole")
    assert whole.codes == [0], whole.output
    gone_on_from = set()
    for operation in (12, 40, None):
        arguments = ("--config", config, "--run.output", tmp_path / "run", "--run.resume", "true")
        outcome = launch(*arguments, killed_before=operation)
        assert outcome.codes == [0 if operation is None else -signal.SIGKILL], outcome.output
        gone_on_from |= set(re.findall(r"going on from .* at step (\d+) of", outcome.output))
    assert any(int(step) % 5 for step in gone_on_from), gone_on_from  # an epoch has five
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_as_one(world, stream, tmp_path, launch):
    config = config_file(world, stream, tmp_path, dropout=0.0)
    lines = []
    for processes in (1, 2):
        run = tmp_path / str(processes)
        outcome = launch("--config", config, "--run.output", run, processes=processes)
        assert outcome.codes == [0] * processes, outcome.output
        lines.append(metrics(run))
    for one, two in zip(*lines, strict=True):
        assert two == pytest.approx(one, rel=1e-3)


def test_shards_that_do_not_fit_the_run_are_named_before_anything_is_trained(world, stream, tmp_path, complaint):
    config = config_file(world, stream, tmp_path)
    line = complaint(2, SCRIPT, "--config", config, "--optim.batch_size", 10)
    assert "optim.batch_size 10 does not divide over the 4 shards of data.stream; 8 or 12 would fit" in line
    line = complaint(2, SCRIPT, "--config", config, "--data.train_splits", "[train, val]")
    assert line.endswith(f"data.train_splits is train, val, but data.stream {stream} was written from train")
    broken = shutil.copytree(stream, tmp_path / "broken")
    shard = sorted(broken.glob("*.parquet"))[1]
    shard.write_bytes(shard.read_bytes()[:1000])
    line = complaint(1, SCRIPT, "--config", config, "--data.stream", broken)
    assert line.startswith(f"{shard}: expected ") and line.endswith("got 1,000: copy it again")
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("script", ["scripts/finetune_retrieval.py", "scripts/pretrain_vision.py"])
def test_streams_are_for_vqa_alone(stream, complaint, script):
    line = complaint(2, script, "--data.root", "x", "--run.output", "y", "--data.stream", stream)
    assert line.endswith(f"data.stream {stream} is for finetuning on VQA alone")
