"""The first check on a GPU, run on a CPU: every part of it, what it says without a GPU, and how it fails."""

import json
import sys

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from benchmarks import gpu_check, retrieval, train_vqa
from benchmarks.every_task import CPU, Trial, combinations
from benchmarks.gpu_check import FAILED, OK, SKIPPED, TOLD, Setting, attempt, check, main, peak_of
from tests.benchmarks.test_naive import VARIANTS, make_model
from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS

TINY = Setting(torch.device("cpu"), "tiny", is_cuda=False)


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    return stop.value.code


def test_all_of_it_runs_on_a_cpu(monkeypatch, tmp_path, capsys):
    # Compiling takes a minute here; what is captured is tested beside the training.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, options: None)
    monkeypatch.setattr("benchmarks.measure.MATMUL_SIDE", {"cpu": 16})
    for module in (retrieval, train_vqa):  # a small model in place of a tiny one
        monkeypatch.setattr(module, "random_model", lambda size, head: make_model(*VARIANTS[0], head, vocabulary=50265))
    output = tmp_path / "gpu_check.json"
    assert run(monkeypatch, "--device", "cpu", "--size", "tiny", "--minutes", 60, "--output", output) == 0
    rows = json.loads(output.read_text())["rows"]
    assert {row["verdict"] for row in rows} == {OK, TOLD}
    assert {row["part"] for row in rows} == {"runs", "losses", "dropout", "memory", "speed"}
    assert sum(row["part"] == "runs" for row in rows) == len(combinations())
    assert "VQA step, ours" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "--output", tmp_path / "none.json") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "PyTorch finds no GPU here; --device cpu --size tiny" in error


def test_what_does_not_fit_into_the_time_is_said(monkeypatch):
    rows = check(TINY, seconds=0)
    assert [row.verdict for row in rows] == [SKIPPED] * len(gpu_check.PARTS)
    assert rows[0].found == "time is up"


def test_an_error_and_a_wrong_number_fail(monkeypatch, tmp_path, capsys):
    wrong = attempt("losses", "vqa", lambda: ("differ by 1", "1e-3", False))
    broken = attempt("runs", "vqa", lambda: {}["nothing"])
    assert wrong.verdict == broken.verdict == FAILED and "KeyError" in broken.found
    monkeypatch.setattr(gpu_check, "PARTS", [(lambda setting: iter([wrong]), 0)])
    assert run(monkeypatch, "--device", "cpu", "--output", tmp_path / "failed.json") == 1
    assert "1 of 1 checks failed" in capsys.readouterr().err


@pytest.mark.parametrize("kind", TASKS)
def test_a_step_that_is_held_against_a_cpus_draws_nothing(kind):
    """A GPU draws other numbers from the same seed."""
    one, other = (Trial(kind, "absvit", CPU).step(number) for number in (0, 5))
    assert one == other


def test_a_trial_on_a_cpu_may_follow_one_on_a_gpu(monkeypatch):
    """Losses are held against a CPU's in a process that has used its GPU."""
    Trial("pretraining", "none", CPU)
    for state in (PartialState, AcceleratorState):
        monkeypatch.setitem(state._shared_state, "device", torch.device("cuda", 0))
    assert Trial("pretraining", "none", CPU).step().keys() == {"classification"}


def test_cards_are_known_by_their_names():
    for name, tera in {
        "NVIDIA H100 PCIe": 756, "NVIDIA H100 80GB HBM3": 989, "NVIDIA A100-SXM4-80GB": 312, "NVIDIA L4": 121,
        "NVIDIA L40S": 362, "NVIDIA A10G": 70, "NVIDIA H200": 989,
    }.items():  # fmt: skip
        assert peak_of(name) == 1e12 * tera
    assert peak_of("NVIDIA GeForce GTX 1080") is None
