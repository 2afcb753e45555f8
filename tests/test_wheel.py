"""The package as others install it: in an environment of its own, far from the checkout, used from an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import vl_absvit
from tests.run_script import ROOT
from vl_absvit.cli import parse_run_config
from vl_absvit.config import VQAConfig
from vl_absvit.config.shipped import shipped_configs

pytestmark = pytest.mark.slow  # a build, and processes

ALONE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment in which ``pip install .`` was said; what the package needs is this one's."""
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "environment"
    for name in ("vl_absvit", "configs"):  # a build leaves things beside what it builds
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(environment)
    (packages(environment) / "needed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin/python")]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "install", *options, str(source)], cwd=folder, env=ALONE, check=True)
    return environment


def packages(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder but what Python compiles."""
    found = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@pytest.fixture
def program(environment, tmp_path):
    """What ``vl-absvit`` prints in an empty folder."""

    def run(*words: str) -> str:
        command = [environment / "bin/vl-absvit", *words]
        done = subprocess.run(command, cwd=tmp_path, env=ALONE, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_everything_of_the_package_is_installed_and_the_configs_in_it(environment):
    installed = files(packages(environment) / "vl_absvit")
    assert installed == files(ROOT / "vl_absvit") | {
        f"configs/{name}": text for name, text in files(ROOT / "configs").items()
    }
    assert {
        "py.typed",
        "commands/app.css",
        "looking/report_page.html",
        "configs/accelerate/ddp.yaml",
    } <= installed.keys()
    assert not (packages(environment) / "configs").exists() and not (packages(environment) / "scripts").exists()


def test_the_command_is_that_of_the_installed_package(environment, program):
    assert program("--version") == f"vl-absvit {vl_absvit.__version__}\n"
    said = program("--help")
    assert str(packages(environment) / "vl_absvit/configs") in said and all(name in said for name in shipped_configs())


def test_a_shipped_config_is_found_by_its_name(program, tmp_path):
    printed = tmp_path / "printed.yaml"
    printed.write_text(program("finetune-vqa", "--config", "vqa_absvit_base", "--print_config"))
    ours = ROOT / "configs/vqa_absvit_base.yaml"
    assert parse_run_config(VQAConfig, [f"--config={printed}"]) == parse_run_config(VQAConfig, [f"--config={ours}"])


def test_a_program_does_its_work(program, tmp_path):
    assert program("make-demo", "--output", "world", "--scenes", "1") == "world: made\n"
    assert [file.name for file in tmp_path.iterdir()] == ["world"] and files(tmp_path / "world")
