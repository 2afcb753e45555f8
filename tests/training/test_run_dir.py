"""The run folder: what it records, what it refuses."""

import json
import signal
from dataclasses import replace

import pytest

from tests.distributed_helper import run_on_ranks
from tests.killing import die, in_a_process
from vl_absvit.cli import parse_run_config
from vl_absvit.config import DataConfig, LearningRates, OptimConfig, RunConfig, VisionConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.retrieval import RetrievalConfig
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.training.run_dir import LOGGER, RunFolder, open_run


@pytest.fixture
def config(tmp_path):
    return VQAConfig(
        data=DataConfig(root="prepared", train_splits=("train", "val"), select_split=None),
        run=RunConfig(output=str(tmp_path / "run")),
        optim=OptimConfig(betas=(0.9, 0.99), max_grad_norm=None),
    )


def resumed(config, **run):
    return replace(config, run=replace(config.run, resume=True, **run))


@pytest.mark.parametrize("kind", [VQAConfig, RetrievalConfig, PretrainConfig])
def test_the_written_config_is_read_as_the_same_config(tmp_path, kind):
    odd = kind(
        data=DataConfig(root="5", train_splits=("true", "a: b # c"), select_split=None),
        run=RunConfig(output=str(tmp_path / "run é\n"), seed=3, trackers=()),
        vision=VisionConfig(weights="{a: [", gain=1 / 3, patch_size=8),
        optim=OptimConfig(
            eps=1e-30, betas=(0.1, 1 - 1e-12), max_grad_norm=None, learning_rates=LearningRates(head=3e-5)
        ),
    )
    run = open_run(odd)
    assert parse_run_config(kind, ["--config", str(run.path / "config.yaml")]) == odd


def test_the_environment_of_every_launch_is_recorded(config):
    open_run(config).write_metrics(step=1)
    run = open_run(resumed(config))
    launches = json.loads((run.path / "environment.json").read_text())
    assert len(launches) == 2
    assert launches[0]["packages"]["torch"] and launches[0]["command"] and "commit" in launches[0]


def test_going_on_in_another_environment_is_said(config, capsys):
    run = open_run(config)
    run.write_metrics(step=1)
    open_run(resumed(config))
    assert "another environment" not in capsys.readouterr().err
    path = run.path / "environment.json"
    launches = json.loads(path.read_text())
    launches[-1] |= {"processes": 8, "packages": launches[-1]["packages"] | {"torch": "1.0"}, "started": "long ago"}
    path.write_text(json.dumps(launches))
    open_run(resumed(config))
    line = capsys.readouterr().err
    assert line.startswith(
        "going on in another environment, results may differ: processes was 8, now it is 1; torch was"
    )
    assert "started" not in line and line.count("\n") == 1


def test_a_folder_that_holds_a_run_is_refused(config):
    open_run(config).write_metrics(step=1)
    with pytest.raises(ConfigError, match="already holds a run"):
        open_run(config)


def refusal(folder: str) -> str:
    """Why a run in a folder is refused."""
    try:
        open_run(VQAConfig(data=DataConfig(root="prepared"), run=RunConfig(output=folder)))
    except (ConfigError, InputError) as error:
        return f"{type(error).__name__}: {error}"
    return "it is not"


@pytest.mark.slow
def test_all_processes_hear_why_a_run_cannot_begin(config, tmp_path):
    """Or those that do not look would wait for the one that has stopped."""
    open_run(config).write_metrics(step=1)
    first, second = run_on_ranks(refusal, 2, config.run.output)
    assert first == second and first.startswith("ConfigError") and "already holds a run" in first
    (tmp_path / "file").write_text("")
    first, second = run_on_ranks(refusal, 2, str(tmp_path / "file"))
    assert first == second and first.startswith("ConfigError") and "is a file, expected a folder" in first


def test_a_start_that_failed_before_training_does_not_block_the_folder(config):
    open_run(config)
    again = replace(config, optim=OptimConfig(epochs=3))
    run = open_run(again)
    assert parse_run_config(VQAConfig, ["--config", str(run.path / "config.yaml")]) == again


def test_a_run_whose_config_has_a_key_under_its_earlier_name_goes_on(config):
    config = replace(config, from_checkpoint="before/best")
    run = open_run(config)
    run.write_metrics(step=1)
    file = run.path / "config.yaml"
    file.write_text(file.read_text().replace("from_checkpoint: before/best", "start: before/best"))
    assert "\nstart: before" in file.read_text()
    open_run(resumed(config))
    assert parse_run_config(VQAConfig, ["--config", str(file)]) == config


def test_metrics_are_lines_and_later_ones_can_be_forgotten(config):
    run = open_run(config)
    for step in (1, 2, 3):
        run.write_metrics(step=step, loss=0.5)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run.forget_metrics_after(2)
    assert [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.5},
    ]


def test_the_scores_of_an_evaluation_that_came_to_its_end_are_read_again(config):
    run = open_run(config)
    assert run.scores_at(1) is None
    run.write_metrics(step=1, vqa=0.5)
    run.write_metrics(step=2, vqa=0.25)
    run.write_metrics(step=2, epoch=0, **{"select/accuracy": 100 / 3})
    assert run.scores_at(1) is None
    assert run.scores_at(2) == {"accuracy": 100 / 3}


def test_other_processes_write_nothing(config, tmp_path):
    run = RunFolder(config.run.output, is_main=False)
    run.write_metrics(step=1)
    run.forget_metrics_after(0)
    assert list(tmp_path.iterdir()) == []


def test_the_log_goes_to_the_console_and_to_its_file(config, capsys):
    run = open_run(config)
    LOGGER.info("12 questions left out")
    assert capsys.readouterr().err == "12 questions left out\n"
    assert "INFO 12 questions left out" in (run.path / "console.log").read_text()


def test_a_second_run_in_the_folder_is_refused_while_the_first_one_lives(config, capfd):
    def open_again():
        try:
            open_run(resumed(config))
        except InputError as error:
            print(error, flush=True)  # noqa: T201
            raise

    def open_and_die():
        open_run(config).write_metrics(step=1)
        die()

    assert in_a_process(open_and_die) == -signal.SIGKILL
    run = open_run(resumed(config))
    files = ["config.yaml", "environment.json", "metrics.jsonl"]
    before = [(run.path / name).read_bytes() for name in files]
    assert in_a_process(open_again) == 1
    assert capfd.readouterr().out.startswith(f"run.output {run.path}: another process is at work there")
    assert before == [(run.path / name).read_bytes() for name in files]
