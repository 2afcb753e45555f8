"""What one process does for all: its result and its failure reach every process."""

import os

import pytest

from tests.distributed_helper import run_on_ranks
from vl_absvit.errors import InputError
from vl_absvit.training.main_process import in_main_process


def fail() -> None:
    raise InputError(f"no room in process {os.environ['RANK']}")


def results_and_failure() -> list:
    done = []
    result = in_main_process(lambda: done.append("done") or 5)
    try:
        in_main_process(fail)
    except InputError as error:
        return [done, result, str(error)]
    raise AssertionError("nothing failed")


def test_in_one_process_it_is_a_call():
    assert in_main_process(lambda: 5) == 5
    with pytest.raises(KeyError):
        in_main_process(lambda: {}["nothing"])


@pytest.mark.slow
def test_one_of_two_processes_acts_and_both_know():
    first, second = run_on_ranks(results_and_failure, 2)
    assert first == [["done"], 5, "no room in process 0"]
    assert second == [[], 5, "no room in process 0"]
