"""``scripts/demo.sh`` in small: every stage leaves what it should, and a second run reuses it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.quick_programs import quick_programs
from tests.run_script import ROOT, run_script

STAGES = ["world", "prepare", "pretrain", "finetune", "evaluate", "attention", "captions", "retrieval", "rank"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(fork_server) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """The demo on the CPU, in the environment that the tests run in, with programs that start at once."""

    def demo(*arguments: object) -> subprocess.CompletedProcess:
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"SKIP_SETUP": "1", "PATH": path, "PYTHONPATH": str(ROOT)}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        command = ["bash", str(ROOT / "scripts/demo.sh"), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    with quick_programs(fork_server) as programs:
        yield demo


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs") / "demo"


@pytest.fixture(scope="module")
def options(output) -> list:
    overrides = ["--optim.epochs", 1, "--optim.batch_size", 66, "--run.trackers", "[]"]
    return ["--output", output, "--scenes", 60, "--", *overrides]


@pytest.fixture(scope="module")
def first(demo, options) -> subprocess.CompletedProcess:
    return demo(*options)


def test_the_demo_ends_with_a_table_a_summary_and_overlays(first, output):
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr
    summary = json.loads((output / "summary.json").read_text())
    assert {
        "vqa_accuracy", "vqa_accuracy_per_answer_type", "prior_only_accuracy", "prior_mask_pointing",
        "bottom_up_pointing", "seconds",
    } <= set(summary)  # fmt: skip
    assert list(summary["seconds"]) == STAGES
    assert summary["questions_pointed_at"] + summary["questions_naming_no_object"] == summary["questions"]
    assert set(summary["vqa_accuracy_per_answer_type"]) <= {"yes/no", "number", "other"}
    per_kind = summary["vqa_accuracy_per_kind"].values()
    assert sum(kind["questions"] for kind in per_kind) == summary["questions"]
    mean = sum(kind["accuracy"] * kind["questions"] for kind in per_kind) / summary["questions"]
    assert mean == pytest.approx(summary["vqa_accuracy"], abs=0.02)
    assert summary["prior_only_accuracy"] > 0
    assert {"prior_mask", "bottom_up", "centre", "shuffled", "inter_human"} <= set(summary["agreement"])
    assert "<html" in (output / "report.html").read_text() and "<html" in (output / "report_human.html").read_text()
    first_look, second_look, both = summary["retrieval"]
    assert first_look["protocol"].startswith("zero-shot on flickr30k test, 2 images x 10 captions")
    assert "best 10 of every query" in second_look["protocol"] and 0 <= second_look["ir_r1"] <= 100
    assert both["protocol"] == f"{second_look['protocol']} and the dual encoder, summed"
    assert "prior mask on the asked object" in first.stdout and f"{summary['vqa_accuracy']:.2f}" in first.stdout
    overlays = sorted((output / "overlays").iterdir())
    images = [int(file.stem) // 1000 for file in overlays]
    assert len(images) == 8 and all(images.count(image) == 2 for image in images)
    assert all(Image.open(file).width > 1000 for file in overlays)


def test_finetuning_runs_in_as_many_processes_as_the_demo_says(first, output):
    for run in ("pretrained", "vqa", "retrieval"):
        (launch,) = json.loads((output / run / "environment.json").read_text())
        assert launch["processes"] == min(2, len(os.sched_getaffinity(0)))


def test_a_second_run_reuses_every_stage(demo, first, output, options):
    weights = output / "vqa/checkpoints/last/model.safetensors"
    before, summary = weights.stat().st_mtime_ns, json.loads((output / "summary.json").read_text())
    again = demo(*options)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr
    assert all(f"== {stage}: finished already" in again.stdout for stage in STAGES)
    assert weights.stat().st_mtime_ns == before
    assert json.loads((output / "summary.json").read_text()) == summary


def test_another_seed_does_not_land_in_the_same_folder(demo, first, output, options):
    other = demo("--seed", 1, *options)
    assert other.returncode == 1 and other.stderr.count("\n") == 1
    assert other.stderr.startswith(f"error: {output} holds a demo with another seed")


@pytest.mark.parametrize("arguments", [["--seed"], ["--seed", "one"], ["--scenes", "-3"], ["--sede", "1"], ["1"]])
def test_a_wrong_option_is_a_usage_error(demo, arguments):
    done = demo(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage:") and done.stderr.count("\n") == 1


def summarise(output: Path, **changes) -> int:
    """Exit code of the summary on the finished demo, run in this process."""
    arguments = {
        "checkpoint": output / "vqa/checkpoints/best",
        "data": output / "data",
        "objects": output / "world/vqav2/demo_objects.json",
        "predictions": output / "predictions.json",
        "output": output / "again",
    } | changes
    return run_script(
        "scripts/summarise_demo.py", *(word for key, each in arguments.items() for word in (f"--{key}", each))
    )


def test_a_file_of_another_form_is_one_line_and_leaves_no_summary(first, output, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"
    for content in ('{"1": [[0, 0, 5]]}', '{"one": []}', '{"1": 5}'):
        boxes.write_text(content)
        assert summarise(output, objects=boxes) == 1
        assert f"error: {boxes}: expected" in capsys.readouterr().err
    predictions = tmp_path / "predictions.json"
    predictions.write_text("[]")
    assert summarise(output, predictions=predictions) == 1
    assert f"error: {predictions}:" in capsys.readouterr().err
    assert not (output / "again").exists()
