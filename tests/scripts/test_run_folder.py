"""The run folder alone makes the run again: the same weights, bit by bit, and the same numbers."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.run_folders import assert_same_end
from tests.run_script import run_script
from tests.tiny_vqa import tiny_retrieval_config, write_config

SCRIPTS = {
    "pretrained": "scripts/pretrain_vision.py",
    "vqa": "scripts/finetune_vqa.py",
    "retrieval": "scripts/finetune_retrieval.py",
}


@pytest.fixture(scope="module")
def runs(world, finetuned, tmp_path_factory) -> dict[str, Path]:
    """A finished run of each kind."""
    folder = tmp_path_factory.mktemp("first")
    config = write_config(tiny_retrieval_config(world, folder / "retrieval"), folder / "retrieval.yaml")
    assert run_script(SCRIPTS["retrieval"], "--config", config) == 0
    return {kind: (finetuned if kind != "retrieval" else folder) / kind for kind in SCRIPTS}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_run_folder_alone_makes_the_same_run_again(runs, tmp_path, kind):
    first, again = runs[kind], tmp_path / "again"
    config = shutil.copy(first / "config.yaml", tmp_path)
    assert run_script(SCRIPTS[kind], "--config", config, "--run.output", again) == 0
    assert_same_end(again, first)
    written = [yaml.safe_load((run / "config.yaml").read_text()) for run in (first, again)]
    assert [content["run"].pop("output") for content in written] == [str(first), str(again)]
    assert written[0] == written[1]
