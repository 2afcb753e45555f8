"""``vl-absvit``: what it lists, what it runs, and one line for what it does not know."""

import subprocess
import sys
from pathlib import Path

import pytest

import vl_absvit
from tests.run_script import ROOT, run_script
from vl_absvit.__main__ import COMMANDS
from vl_absvit.config.shipped import shipped_configs

NAMES = [name for group in COMMANDS.values() for name in group]
MODULES = {file.stem for file in (ROOT / "vl_absvit/commands").glob("*.py")} - {"__init__"}
DOOR = '''"""A checkout's door to vl_absvit/commands/{name}.py."""

from vl_absvit.cli import run_main
from vl_absvit.commands.{name} import main

if __name__ == "__main__":
    run_main(main)
'''


def test_every_program_is_listed_once():
    assert sorted(NAMES) == sorted(name.replace("_", "-") for name in MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_program_has_a_door_in_a_checkout(name):
    (door,) = [file for folder in ("scripts", "data_prep") for file in ROOT.glob(f"{folder}/{name}.py")]
    assert door.read_text() == DOOR.format(name=name)


def test_help_is_one_line_for_everything(capsys):
    assert run_script("vl-absvit", "--help") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said if line.startswith("  ") and line.split()[0] in NAMES] == NAMES
    assert max(map(len, said[:-1])) <= 110 and all(name in "\n".join(said) for name in shipped_configs())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["finetune-vqa", "--help"],
        ["finetune-retrieval", "--optim.batch_sise", "3"],
        ["pretrain-vision", "--config", "pretrain_absvit_base", "--print_config"],
    ],
)
def test_what_needs_no_torch_does_not_wait_for_it(words):
    lines = f"import atexit, sys, vl_absvit.__main__ as program; sys.argv = {['vl-absvit', *words]}"
    lines += "; atexit.register(lambda: print('torch' in sys.modules)); program.main()"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.stdout.endswith("False\n") and (done.returncode == 0 or "did you mean" in done.stderr)


def test_nothing_to_run_is_the_help_too(capsys):
    assert run_script("vl-absvit") == run_script("vl-absvit", "-h") == 0
    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert first == second


def test_the_version_is_the_package_s(capsys):
    assert run_script("vl-absvit", "--version") == 0
    assert capsys.readouterr().out == f"vl-absvit {vl_absvit.__version__}\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [("finetune-vaq", "did you mean finetune-vqa?"), ("--verson", "see --help"), ("xx", "see --help for all of them")],
)
def test_an_unknown_program_is_one_line_with_the_nearest(word, hint, capsys):
    assert run_script("vl-absvit", word, "--config", "x") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: command line: vl-absvit has no command {word}; {hint}") and err.count("\n") == 1


@pytest.mark.parametrize("name", ["make-demo", "make_demo"])
def test_a_program_gets_its_own_words(name, tmp_path, capsys):
    assert run_script("vl-absvit", name, "--output", tmp_path / "x", "--scenes", 0) == 2
    assert "error: expected --scenes >= 1 and --seed >= 0, got 0 and 0" in capsys.readouterr().err
    assert run_script("vl-absvit", name, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: vl-absvit make-demo [-h] --output OUTPUT")


def test_python_runs_it_as_a_module(tmp_path):
    command = [sys.executable, "-m", "vl_absvit", "--version"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    assert subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).startswith("vl-absvit ")
    assert not list(Path(tmp_path).iterdir())


def test_who_stops_reading_is_not_told_of_an_error():
    command = [sys.executable, "-m", "vl_absvit", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141
