"""The planner from the command line: it reads configs as the training scripts do, tells what fits, what it assumes."""

import json
from pathlib import Path

import pytest
import yaml

from tests.run_script import ROOT, run_script
from tests.scripts.test_configs import CONFIGS
from tests.tiny_vqa import tiny_retrieval_config, tiny_vqa_config, write_config
from vl_absvit.cli import parse_run_config
from vl_absvit.tasks.registry import TASKS, choose_task
from vl_absvit.tasks.vqa import VQAConfig

SCRIPT = "scripts/plan.py"


@pytest.fixture
def config(world, tmp_path) -> Path:
    """Of a tiny VQA run whose data is there."""
    return write_config(tiny_vqa_config(world, tmp_path / "run", micro_batch_size=3), tmp_path / "config.yaml")


@pytest.mark.slow
def test_a_plan_tells_memory_time_and_what_to_take(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = tmp_path / "out/plan.json"
    options = ["--gpus", 2, "--gpu-memory", 1, "--tflops", 0.5, "--utilisation", 0.1]
    options += ["--optim.batch_size", 4, "--optim.micro_batch_size", 1, "--optim.epochs", 3]
    assert run_script(SCRIPT, "--config", config, *options, "--output", output) == 0
    plan = json.loads(output.read_text())
    assert (plan["task"], plan["device"], plan["processes"], plan["batch_size"]) == ("vqa", "cuda", 2, 4)
    assert plan["steps"] == 3 * (plan["samples"] // 4) > 0 and plan["assumed"] == []
    kinds = [(row["precision"], row["checkpointing"], row["micro_batch_size"]) for row in plan["choices"]]
    assert kinds == [(p, c, size) for p in ("bf16", "fp32") for c in (False, True) for size in (2, 1)]
    for row in plan["choices"]:
        assert row["passes"] * row["micro_batch_size"] == 2
        assert row["fits"] and row["peak_bytes"] > sum(plan["states_bytes"].values()) > 0
        if row["precision"] == "fp32":
            assert row["seconds_per_step"] == pytest.approx(row["flops"] / 0.05e12)
            assert row["days"] == pytest.approx(row["seconds_per_step"] * plan["steps"] / 86400)
        else:
            assert row["seconds_per_step"] is None
    chosen = plan["recommended"]
    assert (chosen["precision"], chosen["checkpointing"], chosen["micro_batch_size"]) == ("fp32", False, 2)
    taken = parse_run_config(VQAConfig, ["--config", str(config), *chosen["overrides"].split()])
    assert taken.optim.micro_batch_size == 2 and taken.vision.gradient_checkpointing is False
    shown = capsys.readouterr().out
    assert f"recommended: {chosen['overrides']}" in shown
    assert "assumed: 0.1 of 0.5, as given" in shown and "an assumption, see --headroom" in shown


def test_measuring_without_a_checkout_is_one_line(config, tmp_path, complaint, monkeypatch):
    monkeypatch.setattr("vl_absvit.commands.plan.__file__", str(tmp_path / "vl_absvit/commands/plan.py"))
    line = complaint(2, SCRIPT, "--config", config, "--gpu-memory", 1, "--device", "cpu", "--measure", 1)
    assert line == "command line: --measure needs a checkout of the repository; --tflops needs none"


@pytest.mark.slow
def test_measured_steps_stand_beside_what_is_counted(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 64})
    config = write_config(tiny_retrieval_config(world, tmp_path / "run"), tmp_path / "config.yaml")
    options = ["--gpu-memory", 1, "--device", "cpu", "--measure", 2, "--optim.batch_size", 2]
    assert run_script(SCRIPT, "--config", config, *options, "--output", tmp_path / "plan.json") == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["task"] == "retrieval" and [step["precision"] for step in plan["measured"]] == ["fp32", "bf16"]
    for step in plan["measured"]:
        assert step["samples"] == 2 and step["machine"]["device"]
        assert min(step[name] for name in ("pass_seconds", "peak_bytes", "counted_bytes", "flop_per_second")) > 0
        assert plan["rates"][step["precision"]]["flop_per_second"] == step["flop_per_second"]
    # One process alone cannot find a hard caption for a single sample.
    assert {row["micro_batch_size"] for row in plan["choices"]} == {2}
    assert all(row["days"] > 0 for row in plan["choices"])
    assert "measured here on 2 samples" in capsys.readouterr().out


@pytest.mark.slow
def test_where_nothing_fits_it_says_so(config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    small = ["--gpu-memory", 1e-5, "--optim.batch_size", 2, "--optim.micro_batch_size", "null"]
    assert run_script(SCRIPT, "--config", config, *small) == 0
    shown = capsys.readouterr().out
    assert "nothing fits" in shown and "recommended" not in shown and "time: not known here" in shown


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_names_its_task(name):
    assert choose_task(None, str(ROOT / "configs" / name)).config_class is CONFIGS[name]


@pytest.mark.parametrize("kind", TASKS)
def test_a_run_s_config_names_its_task(kind):
    assert TASKS[kind].config_class.task == kind


def write_for(task: object, path: Path, config: Path) -> Path:
    """The config with another task, or without one."""
    content = yaml.safe_load(config.read_text())
    del content["task"]
    path.write_text(yaml.safe_dump(content | ({} if task is None else {"task": task})))
    return path


def test_a_config_that_names_no_task_or_another_than_the_command_line_is_one_line(config, tmp_path, complaint):
    silent, other = write_for(None, tmp_path / "silent.yaml", config), write_for("nlvr2", tmp_path / "o.yaml", config)
    line = complaint(2, SCRIPT, "--config", silent, "--gpu-memory", 8)
    kinds = ", ".join(TASKS)
    assert line == f"config {silent}: task is missing; expected one of {kinds}, in the file or by --task"
    assert choose_task("nlvr2", str(silent)) is TASKS["nlvr2"]
    for program in ("scripts/train.py", "scripts/finetune_vqa.py"):
        options = ["--task", "vqa"] if program == "scripts/train.py" else []
        line = complaint(2, program, "--config", other, *options)
        assert line.startswith(str(other)) and "task" in line and "nlvr2" in line and "vqa" in line
    for wrong in ("quiz", ["vqa"]):
        file = write_for(wrong, tmp_path / "wrong.yaml", config)
        line = complaint(2, SCRIPT, "--config", file, "--gpu-memory", 8)
        assert line == f"config {file}: task: expected one of {kinds}, got {wrong!r}"
    assert complaint(2, SCRIPT, "--config", config, "--gpu-memory", 8, "--task", "quiz").startswith("command line: --t")
    assert "absent.yaml" in complaint(2, SCRIPT, "--config", tmp_path / "absent.yaml", "--gpu-memory", 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "required: --gpu-memory"),
        (["--gpu-memory", "nan"], "argument --gpu-memory: must be a number above 0, got nan"),
        (["--gpu-memory", "8", "--gpus", "0"], "argument --gpus: must be at least 1, got 0"),
        (["--gpu-memory", "8", "--headroom", "1"], "argument --headroom: must be a number in [0, 1), got 1"),
        (["--gpu-memory", "8", "--tflops", "989"], "--tflops and --utilisation go together"),
        (
            ["--gpu-memory", "8", "--tflops", "9", "--utilisation", "1", "--measure", "2"],
            "--measure and --tflops both say how fast training is",
        ),
        (["--gpu-memory", "8", "--sample", "5"], "unrecognized arguments: --sample; did you mean --samples?"),
        (["--gpu-memory", "8", "--optim.batch_sise", "5"], "did you mean --optim.batch_size?"),
        (["--gpu-memory", "8", "--gpus", "5"], "optim.batch_size 12 does not divide into 5 processes; 10 or 15"),
        (["--gpu-memory", "8", "--text.tokenizer", "nowhere"], "text.tokenizer nowhere: no such folder"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(complaint, config, options, message):
    assert message in complaint(2, SCRIPT, "--config", config, *options)


def test_data_of_another_kind_is_an_error_of_the_data(complaint, config, tmp_path):
    file = write_for(None, tmp_path / "other.yaml", config)
    line = complaint(1, SCRIPT, "--config", file, "--gpu-memory", 8, "--task", "retrieval")
    assert "expected prepared data of the kind captions, got 'vqav2'" in line
