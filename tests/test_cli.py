"""Configs from file and command line, one-line errors with their exit codes, progress."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vl_absvit import cli
from vl_absvit.cli import parse_run_config, progress, run_main
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.vqa import VQAConfig

ROOT = Path(__file__).parents[1]
NEEDED = ["--data.root", "prepared", "--run.output", "runs/x"]


def parse(*argv: str) -> VQAConfig:
    return parse_run_config(VQAConfig, [*NEEDED, *argv])


@pytest.fixture
def config_file(tmp_path):
    def write(content) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(config_file):
    file = config_file({"optim": {"batch_size": 32, "epochs": 2}})
    config = parse("--config", file, "--optim.epochs", "3")
    assert (config.optim.batch_size, config.optim.epochs, config.optim.weight_decay) == (32, 3, 0.01)


def test_a_shipped_config_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = parse("--config", str(ROOT / "configs/demo/vqa.yaml"))
    assert parse("--config", "demo/vqa") == parse("--config=demo/vqa.yaml") == shipped
    assert shipped.vision != parse().vision
    (tmp_path / "vqa_absvit_base").mkdir()  # a folder is no config
    assert parse("--config", "vqa_absvit_base").optim == parse("--config", "vqa_absvit_base.yaml").optim


def test_a_file_wins_over_the_shipped_config_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/vqa").write_text("optim: {epochs: 77}")
    assert parse("--config", "demo/vqa").optim.epochs == 77


def test_values_arrive_in_their_types(config_file):
    file = config_file("optim: {betas: [0.9, 0.95], learning_rates: {head: 1e-3}}\ndata: {select_split: null}\n")
    config = parse("--config", file, "--optim.max_grad_norm", "null", "--run.resume", "true", "--run.trackers", "[]")
    assert config.optim.betas == (0.9, 0.95) and config.optim.learning_rates.head == 1e-3
    assert config.data.select_split is None and config.optim.max_grad_norm is None
    assert config.run.resume is True and config.run.trackers == ()


def test_defaults_that_differ_between_runs_are_kept():
    config = parse_run_config(PretrainConfig, NEEDED)
    assert (config.vision.gain, config.loss.reconstruction) == (1.0, 0.1)
    assert parse_run_config(PretrainConfig, [*NEEDED, "--vision.image_size", "96"]).vision.gain == 1.0


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--optim.batch_sise", "3"], "no option --optim.batch_sise; did you mean --optim.batch_size?"),
        (["--batch_size=3"], "no option --batch_size; did you mean --optim.batch_size?"),
        (
            ["--optim.batch_size", "many"],
            "command line: \"optim.batch_size\": Expected a <class 'int'>. Got value: many",
        ),
        (["--vision.top_down", "absvitt"], "'feedback', 'mask_att', 'absvit', 'absvit_qkv']. Got value: absvitt"),
        (["--optim.batch_size", "-1"], "optim.batch_size must be positive, got -1"),
        (
            ["--config", "absent.yaml"],
            "config absent.yaml: No such file or directory, nor a shipped config; the nearest",
        ),
        (["--config", "configs/vqa_absvit_bas.yaml"], "; the nearest are vqa_absvit_base, vqa_absvit_base_384, vqa_"),
        (["--config", "accelerate/ddp"], "config accelerate/ddp: No such file"),
    ],
)
def test_a_fault_on_the_command_line_is_one_line(argv, message):
    with pytest.raises(ConfigError) as error:
        parse(*argv)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"optim": {"batch_sise": 3}}, "there is no key 'optim.batch_sise'; did you mean optim.batch_size?"),
        ({"optimizer": {"batch_size": 3}}, "there is no key 'optimizer'; did you mean optim?"),
        ({"optim": 3}, "optim is a group of keys, got 3"),
        ({"optim": {"batch_size": "many"}}, "run.yaml: \"optim.batch_size\": Expected a <class 'int'>"),
        ({"optim": {"batch_size": -1}}, "optim.batch_size must be positive, got -1"),
        ("data: [", "not YAML"),
        ("", "expected keys and values, got NoneType"),
    ],
)
def test_a_fault_in_the_file_is_one_line(config_file, content, message):
    with pytest.raises(ConfigError) as error:
        parse("--config", config_file(content))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "written", ["start: a/b\n", '{data: {num_workers: 1}, "start": a/b}', "---\n# start: c\nstart: a/b"]
)
def test_a_key_is_read_under_its_earlier_name(config_file, written):
    assert parse("--config", config_file(written)).from_checkpoint == "a/b"
    assert parse("--config", config_file(written), "--from_checkpoint", "c").from_checkpoint == "c"


@pytest.mark.parametrize("argv", [["--start", "a/b"], ["--start=a/b"], ["--from-checkpoint", "a/b"]])
def test_an_option_is_read_under_its_earlier_name_and_with_dashes(argv):
    assert parse(*argv).from_checkpoint == "a/b"


def test_a_key_under_both_of_its_names_is_refused(config_file):
    message = "start is the earlier name of from_checkpoint, which is given, too"
    with pytest.raises(ConfigError, match=f"run.yaml: {message}"):
        parse("--config", config_file({"start": "a", "from_checkpoint": "a"}))
    with pytest.raises(ConfigError, match=f"command line: --{message}"):
        parse("--start", "a", "--from_checkpoint", "b")


def test_a_group_of_keys_is_no_option():
    with pytest.raises(ConfigError, match="run is a group of keys; give them one by one, such as --run.output"):
        parse("--run", "{}")


def test_a_long_file_is_read(config_file):
    assert parse("--config", config_file({"run": {"seed": 3}, "data": {"root": 9000 * "a"}})).run.seed == 3


def test_what_is_needed_is_named():
    with pytest.raises(ConfigError, match="required: data.root, run.output"):
        parse_run_config(VQAConfig, [])


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "Samples per optimizer step, summed over all processes" in text and "Go on from" in text


def test_the_printed_config_can_be_read_again(capsys, config_file):
    with pytest.raises(SystemExit) as stop:
        parse("--print_config", "--optim.epochs", "4")
    assert stop.value.code == 0
    assert parse_run_config(VQAConfig, ["--config", config_file(capsys.readouterr().out)]) == parse(
        "--optim.epochs", "4"
    )


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "error, code, line",
    [
        (InputError("question 3: no image"), 1, "error: question 3: no image\n"),
        (ConfigError("optim.x\nis wrong"), 2, "error: optim.x is wrong\n"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), 1, "error: x.json: No such file or directory\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_an_exit_code(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit) as stop:
        run_main(raising(error))
    assert (stop.value.code, capsys.readouterr().err) == (code, line)


@pytest.mark.parametrize(("main", "code"), [("lambda: None", 0), ("lambda: open('nowhere')", 1)])
def test_one_of_several_processes_ends_before_what_could_abort_it(main, code):
    lines = "import atexit, os; from vl_absvit.cli import run_main; atexit.register(os.abort); print('said'); run_main"
    environment = os.environ | {"RANK": "1", "WORLD_SIZE": "2"}
    ended = subprocess.run([sys.executable, "-c", f"{lines}({main})"], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "said\n")
    assert ended.stderr == ("error (process 1): nowhere: No such file or directory\n" if code else "")


def test_an_error_of_a_loader_process_loses_its_traceback(capsys):
    wrapped = (
        "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x"\nvl_absvit.errors.InputError: a.png: not an image'
    )
    with pytest.raises(SystemExit):
        run_main(raising(InputError(wrapped)))
    assert capsys.readouterr().err.endswith("error: a.png: not an image\n")


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError):
        run_main(raising(AssertionError()))


def test_success_is_exit_code_zero():
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: None)
    assert stop.value.code == 0


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(cli, "SECONDS_BETWEEN_LINES", 3600.0)
    with progress() as bar:
        assert list(bar.track(range(50), description="reading")) == list(range(50))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("reading: 50/50, ")


def test_progress_is_silent_in_other_processes(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with progress() as bar:
        list(bar.track(range(5), description="reading"))
    assert capsys.readouterr().err == ""
