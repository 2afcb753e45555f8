"""A signal that asks for the machine: the run stops after a step with everything saved, and goes on exactly there."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.training.test_loop import on_the_cpu  # noqa: F401
from tests.training.tiny_task import TinyTask, run_tiny, tiny_config
from vl_absvit.training import preemption
from vl_absvit.training.preemption import Preemption, command_to_go_on

pytestmark = pytest.mark.slow  # whole runs


def signalling(function, call: int, number: int = signal.SIGTERM, afterwards: bool = False):
    """``function``, whose ``call``-th call (from 1) is met by a signal."""
    calls = iter(range(1, 1000))

    def signalled(*arguments, **keywords):
        is_the_one = next(calls) == call
        if is_the_one and not afterwards:
            os.kill(os.getpid(), number)
        result = function(*arguments, **keywords)
        if is_the_one and afterwards:
            os.kill(os.getpid(), number)
        return result

    return signalled


def saved_step(folder: Path) -> int:
    return json.loads((folder / "checkpoints/last/training_state.json").read_text())["step"]


@pytest.mark.parametrize(
    "number, forward_pass, step",  # of two a step, of three steps an epoch
    [
        *((signal.SIGTERM, *moment) for moment in ((1, 1), (2, 1), (7, 4), (8, 4), (12, 6), (23, 12))),
        (signal.SIGUSR1, 9, 5),
    ],
)
def test_a_signal_ends_a_run_after_its_step_and_the_rest_follows_bit_identical(
    tmp_path, monkeypatch, capsys, number, forward_pass, step
):
    usual = dict(micro_batch_size=6, evaluations_per_epoch=1)
    run_tiny(tiny_config(tmp_path / "whole", **usual), dropout=0.3)
    monkeypatch.setattr(sys, "argv", ["finetune.py", "--config", "my run.yaml"])
    with monkeypatch.context() as patch:
        patch.setattr(TinyTask, "losses", signalling(TinyTask.losses, forward_pass, number))
        run_tiny(tiny_config(tmp_path / "cut", **usual), dropout=0.3)
    assert saved_step(tmp_path / "cut") == step
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith(
        f"asked to stop by a signal: saved step {step} of 12 in {tmp_path}/cut/checkpoints/last"
    )
    assert last_line.endswith("launch again with: finetune.py --config 'my run.yaml' --run.resume true")
    run_tiny(tiny_config(tmp_path / "cut", resume=True, **usual), dropout=0.3)
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("name", ["evaluate", "save"])
def test_a_signal_waits_for_the_end_of_an_evaluation_and_of_a_save(tmp_path, monkeypatch, name):
    run_tiny(tiny_config(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(TinyTask, name, signalling(getattr(TinyTask, name), 3))
        run_tiny(tiny_config(tmp_path / "cut"))
    evaluated = 3 if name == "evaluate" else 2  # the third save is that of the second step
    assert saved_step(tmp_path / "cut") == evaluated
    last_line = metrics(tmp_path / "cut")[-1]
    assert "select/score" in last_line and last_line["step"] == evaluated
    run_tiny(tiny_config(tmp_path / "cut", resume=True))
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


def test_a_signal_in_the_last_evaluation_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TinyTask, "evaluate", signalling(TinyTask.evaluate, 12))
    run_tiny(tiny_config(tmp_path))
    assert capsys.readouterr().err.splitlines()[-1].startswith("done: ")


def outcome(action) -> int:
    """What becomes of a process that does something: exit code, or minus the number of the signal that ended it."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("is_the_same", [True, False])
def test_a_second_signal_is_death_unless_it_is_the_first_one_passed_on(monkeypatch, number, is_the_same):
    monkeypatch.setattr(preemption, "SAME_REQUEST_SECONDS", 60.0 if is_the_same else 0.0)

    def receive_two():
        with Preemption():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)

    assert outcome(receive_two) == (0 if is_the_same else -number)


def test_outside_of_training_signals_mean_what_they_meant():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as asked:
        assert not asked.is_asked_for()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.is_asked_for()
    assert signal.getsignal(signal.SIGTERM) == before
    assert outcome(lambda: os.kill(os.getpid(), signal.SIGTERM)) == -signal.SIGTERM


def test_the_command_to_go_on_resumes_once(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["a.py", "--run.resume", "true"])
    assert command_to_go_on() == "a.py --run.resume true"
    monkeypatch.setattr(sys, "argv", ["vl-absvit finetune-vqa", "--run.output", "a b"])
    assert command_to_go_on() == "vl-absvit finetune-vqa --run.output 'a b' --run.resume true"


def train_signalled_in_one_process(folder: str) -> list[int]:
    """Three runs of two processes: undisturbed, and signalled in the first or second process, then gone on with.

    Returns where the latter two stopped.
    """
    losses, stopped_at = TinyTask.losses, []
    run_tiny(tiny_config(Path(folder, "whole"), evaluations_per_epoch=1))
    for rank in ("0", "1"):
        run = Path(folder, rank)
        if os.environ["RANK"] == rank:
            TinyTask.losses = signalling(losses, 5)
        run_tiny(tiny_config(run, evaluations_per_epoch=1))
        TinyTask.losses = losses
        stopped_at.append(saved_step(run))
        torch.distributed.barrier()
        run_tiny(tiny_config(run, evaluations_per_epoch=1, resume=True))
    return stopped_at


@pytest.mark.slow
def test_a_signal_that_reaches_one_of_two_processes_stops_both_after_the_same_step(tmp_path):
    assert run_on_ranks(train_signalled_in_one_process, 2, str(tmp_path)) == [[5, 5], [5, 5]]
    for rank in ("0", "1"):
        assert_same_end(tmp_path / rank, tmp_path / "whole")
