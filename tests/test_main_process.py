"""What one process does for all: its result and its failure reach every process."""

import os
from pathlib import Path

import pytest

from tests.distributed_helper import run_on_ranks
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.main_process import in_main_process


def fail() -> None:
    raise InputError(f"no room in process {os.environ['RANK']}")


def refuse() -> None:
    raise ConfigError("no such thing")


def find_no_file() -> None:
    Path("/nowhere/at all").read_bytes()


def err() -> None:
    {}["nothing"]


def results_and_failures() -> list:
    done = []
    result = in_main_process(lambda: done.append("done") or 5)
    failures = []
    for action in (fail, refuse, find_no_file, err):
        try:
            in_main_process(action)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
    return [done, result, *failures]


def test_in_one_process_it_is_a_call():
    assert in_main_process(lambda: 5) == 5
    with pytest.raises(KeyError):
        in_main_process(lambda: {}["nothing"])


@pytest.mark.slow
def test_one_of_two_processes_acts_and_both_know_how_it_ended():
    first, second = run_on_ranks(results_and_failures, 2)
    no_room, no_thing = "InputError: no room in process 0", "ConfigError: no such thing"
    no_file = "[Errno 2] No such file or directory: '/nowhere/at all'"
    assert first == [["done"], 5, no_room, no_thing, f"FileNotFoundError: {no_file}", "KeyError: 'nothing'"]
    failed = "RuntimeError: the main process failed: KeyError: 'nothing'"
    assert second == [[], 5, no_room, no_thing, f"InputError: {no_file}", failed]
