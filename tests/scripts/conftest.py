"""For the tests of this folder: the tiny world, a finished run on it, and scripts that must fail."""

import shutil
from pathlib import Path

import pytest

from tests.run_script import run_script
from tests.tiny_vqa import (
    tiny_pretrain_config,
    tiny_vision,
    tiny_vqa_config,
    world,  # noqa: F401
    write_config,
)


@pytest.fixture(scope="session")
def finetuned(world, tmp_path_factory) -> Path:  # noqa: F811
    """Run folders of a tiny pretraining and of the finetuning that starts from it."""
    folder = tmp_path_factory.mktemp("runs")
    pretraining = write_config(tiny_pretrain_config(world, folder / "pretrained"), folder / "pretrain.yaml")
    assert run_script("scripts/pretrain_vision.py", "--config", pretraining) == 0
    vision = tiny_vision(weights=str(folder / "pretrained/checkpoints/best"))
    finetuning = write_config(tiny_vqa_config(world, folder / "vqa", vision=vision, dropout=0.1), folder / "vqa.yaml")
    assert run_script("scripts/finetune_vqa.py", "--config", finetuning, "--run.trackers", "[tensorboard]") == 0
    return folder


@pytest.fixture
def complaint(capfd):
    """Run a script that must fail with an exit code; its one line, without ``error:``."""

    def run(code: int, script: str, *arguments: object) -> str:
        capfd.readouterr()
        assert run_script(script, *arguments) == code
        *before, last = capfd.readouterr().err.splitlines()
        assert last.startswith("error: ") and not any(line.startswith("error") for line in before)
        assert not any("Traceback" in line for line in before)
        return last.removeprefix("error: ")

    return run


@pytest.fixture
def finetune(world, tmp_path, complaint):  # noqa: F811
    """The complaint of a finetuning on the tiny world with some options changed; it leaves no checkpoint."""

    def run(code: int, **options: object) -> str:
        config = write_config(tiny_vqa_config(world, tmp_path / "run"), tmp_path / "vqa.yaml")
        changes = [word for key, value in options.items() for word in (f"--{key.replace('__', '.')}", value)]
        line = complaint(code, "scripts/finetune_vqa.py", "--config", config, *changes)
        assert not (tmp_path / "run/checkpoints").exists() and not list(tmp_path.rglob("*.new"))
        return line

    return run


@pytest.fixture
def prepared(world, tmp_path) -> Path:  # noqa: F811
    """A copy of the prepared world, to be damaged."""
    return Path(shutil.copytree(world / "prepared", tmp_path / "prepared"))


@pytest.fixture
def evaluate(world, finetuned, tmp_path, complaint):  # noqa: F811
    """The complaint of an evaluation with some options changed; it writes no predictions."""

    def run(code: int, **options: object) -> str:
        usual = dict(checkpoint=finetuned / "vqa/checkpoints/best", data=world / "prepared", split="val")
        arguments = usual | {"output": tmp_path / "out/predictions.json", "num_workers": 0} | options
        words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", value)]
        line = complaint(code, "scripts/evaluate_vqa.py", *words)
        assert not list(tmp_path.rglob("*predictions.json*"))
        return line

    return run
