"""``scripts/segmentation_evidence.sh`` with a stand-in for Python: what runs, and what is not made again."""

import shlex

import pytest

from tests.scripts import test_evidence
from tests.scripts.test_evidence import evidence, finish  # noqa: F401
from vl_absvit.cli import parse_run_config
from vl_absvit.config import SegmentationConfig


@pytest.fixture(autouse=True)
def _judged(monkeypatch):
    """An evaluation leaves its result."""
    assert "*corrupted.json" in test_evidence.STAND_IN
    monkeypatch.setattr(test_evidence, "STAND_IN", test_evidence.STAND_IN.replace("*corrupted.json", "*/val.json"))


def test_rows_share_an_encoder_and_differ_in_what_they_are_called_for(request):
    start, calls = request.getfixturevalue("evidence")
    finish(start("--seeds", "0 1", "--epochs", "2", script="segmentation_evidence"))
    commands = [shlex.split(line)[1:] for line in calls("finetune_segmentation.py")]
    configs = [parse_run_config(SegmentationConfig, command) for command in commands]
    assert len(configs) == 6 == len(calls("evaluate_segmentation.py")) and len(calls("pretrain_vision.py")) == 2
    assert len({config.vision.weights for config in configs}) == 2
    of_seed_0 = {
        config.run.output.split("/")[-1]: (config.vision.top_down, config.loss.reconstruction, config.optim.epochs)
        for config in configs
        if config.run.seed == 0
    }
    assert of_seed_0 == {
        "absvit-0": ("absvit", 0.1, 2), "vit-0": ("none", 0.0, 2), "no_reconstruction-0": ("absvit", 0.0, 2),
    }  # fmt: skip
    assert "--rows absvit vit no_reconstruction" in calls("tabulate_segmentation.py")[0]
    before = len(calls(""))
    finish(start("--seeds", "0 1", "--epochs", "2", script="segmentation_evidence"))
    assert [line.split()[0] for line in calls("")[before:]] == ["scripts/tabulate_segmentation.py"]
