"""CONTRIBUTING.md: its examples work when their files are put in place, and touch as many files as it says."""

import inspect
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.contributing import blocks, put_in_place
from tests.run_script import ROOT
from tests.tiny_vqa import world  # noqa: F401
from vl_absvit.tasks.registry import TASKS

TESTS = [
    pytest.param(file, name, id=name)
    for file, code in blocks().items()
    for name in re.findall(r"^def (test_\w+)", code, re.MULTILINE)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the files that are added, while they are in place."""
    folder = tmp_path_factory.mktemp("contributed")
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(folder, patch)
        yield folder


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_an_example_passes_its_own_test(file, name, folder, request):
    spec = spec_from_file_location(file, folder / file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    test = getattr(module, name)
    test(**{argument: request.getfixturevalue(argument) for argument in inspect.signature(test).parameters})


def test_code_of_the_page_is_checked_and_formatted_as_ours(folder):
    ours = ["--config", ROOT / "pyproject.toml", "--config", 'lint.isort.known-first-party=["vl_absvit", "tests"]']
    for command in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *command, "--no-cache", *ours, "."]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_as_many_files_are_touched_as_the_page_says():
    readme = 1
    assert len(blocks("A trunk")) + readme == 5
    assert len(blocks("A task")) + readme == 6 and "vl_absvit/models/heads.py" in blocks("A task")
    assert len(blocks("A data set")) == 2 * 2


def test_kinds_are_names_and_configs_tell_tasks_apart(folder):
    assert all(name == task.kind for name, task in TASKS.items()) and "counting" in TASKS
    assert len({task.config_class for task in TASKS.values()}) == len(TASKS)
