"""The loop: what is logged, exact resumption, the same training on one process, on two, and with accumulation."""

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.training.tiny_task import TinyTask, run_tiny, tiny_config
from vl_absvit.distributed import is_main
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.training import loop
from vl_absvit.training.loop import is_evaluation_step, make_accelerator, seed_of
from vl_absvit.training.run_dir import RunFolder

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def training_lines(run: Path) -> list[dict]:
    return [line for line in metrics(run) if "fit" in line]


def test_every_step_is_logged_under_its_loss_names_and_the_loss_goes_down(tmp_path):
    run_tiny(tiny_config(tmp_path))
    logged = training_lines(tmp_path)
    assert [line["step"] for line in logged] == list(range(1, 13))
    assert set(logged[0]) == {"step", "epoch", "fit", "size", "grad_norm", "lr/0", "lr/1", "lr/3"}
    assert logged[-1]["fit"] < 0.8 * logged[0]["fit"]
    assert (logged[0]["lr/3"], logged[1]["lr/3"], logged[-1]["lr/3"]) == (0.0, 0.05, pytest.approx(0.05 / 11))


def test_best_is_the_checkpoint_of_the_highest_score(tmp_path):
    config = tiny_config(tmp_path)
    run_tiny(config)
    scores = [line["select/score"] for line in metrics(tmp_path) if "select/score" in line]
    best = TinyTask(config)
    load_model(best.model, tmp_path / "checkpoints/best/model.safetensors")
    assert len(scores) == 12
    assert best.evaluate(best.model.eval())["score"] == max(scores)


def dying(function, call: int, afterwards: bool):
    """``function``, killed in the ``call``-th of its calls (from 1), before or after what it does."""
    calls = iter(range(1, 1000))

    def dies(*arguments, **keywords):
        is_the_one = next(calls) == call
        result = None if is_the_one and not afterwards else function(*arguments, **keywords)
        if is_the_one:
            raise KeyboardInterrupt
        return result

    return dies


@pytest.mark.parametrize(
    "owner, name, call, afterwards",
    [
        (loop, "save_last", 1, True),
        (loop, "save_last", 5, False),
        (loop, "save_last", 5, True),
        (loop, "save_checkpoint", 5, False),  # the best model's
        (loop, "save_checkpoint", 5, True),
        (TinyTask, "evaluate", 5, False),
        (TinyTask, "losses", 5, True),
        (RunFolder, "write_metrics", 9, False),  # of the fifth step
        (RunFolder, "write_metrics", 10, True),  # of its evaluation
        (TinyTask, "evaluate", 12, True),
    ],
)
def test_an_interrupted_run_ends_bit_identical_to_an_uninterrupted_one(
    tmp_path, monkeypatch, owner, name, call, afterwards
):
    whole = run_tiny(tiny_config(tmp_path / "whole"), dropout=0.3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, dying(getattr(owner, name), call, afterwards))
        run_tiny(tiny_config(tmp_path / "cut"), dropout=0.3)
    with (tmp_path / "cut/metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "fit": 0.0}\n{"step": 1')  # what a killed run may leave
    torch.rand(5)
    cut = run_tiny(tiny_config(tmp_path / "cut", resume=True), dropout=0.3)

    for parameter_name, parameter in whole.items():
        assert torch.equal(parameter, cut[parameter_name]), parameter_name
    assert_same_end(tmp_path / "cut", tmp_path / "whole")


def test_an_evaluation_whose_scores_are_noted_is_not_repeated(tmp_path, monkeypatch):
    run_tiny(tiny_config(tmp_path))
    before = metrics(tmp_path)
    monkeypatch.delattr(TinyTask, "evaluate")
    run_tiny(tiny_config(tmp_path, resume=True))
    assert metrics(tmp_path) == before


def test_resuming_without_a_checkpoint_starts_at_the_beginning(tmp_path):
    fresh = run_tiny(tiny_config(tmp_path / "a"))
    resumed = run_tiny(tiny_config(tmp_path / "b", resume=True))
    assert all(torch.equal(fresh[name], resumed[name]) for name in fresh)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_every_term(tmp_path):
    with pytest.raises(InputError, match=r"step 3: .*'fit': [0-9.]+, 'size': nan"):
        run_tiny(tiny_config(tmp_path), poison_step=2)


def test_processes_wait_for_hours_and_gradients_lie_where_they_are_exchanged():
    handlers = make_accelerator()
    assert handlers.init_handler.timeout == timedelta(hours=2)
    assert handlers.ddp_handler.gradient_as_bucket_view and not handlers.ddp_handler.broadcast_buffers


def train_on_a_full_disk(folder: str) -> str:
    """What stops a run whose metrics cannot be written."""

    def fail(run: RunFolder, **values: object) -> None:
        if is_main():
            raise InputError("no room")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", fail)
        try:
            run_tiny(tiny_config(Path(folder)))
        except InputError as error:
            return str(error)
    return "nothing"


def test_all_processes_hear_of_what_the_main_one_cannot_write(tmp_path):
    """Or the others would wait for it, where no launcher ends them."""
    first, second = run_on_ranks(train_on_a_full_disk, 2, str(tmp_path / "run"))
    assert first == second == "no room"


def test_processes_that_do_not_work_together_are_refused(monkeypatch):
    make_accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="started 2 processes, but 1 of them"):
        make_accelerator()


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "is_wandb_available", lambda: False)
    config = tiny_config(tmp_path)
    object.__setattr__(config.run, "trackers", ("wandb",))
    with pytest.raises(ConfigError, match="wandb, which is not installed"):
        make_accelerator(config.run)


def test_an_engine_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(loop, "is_deepspeed_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match="DeepSpeed, which is not installed"):
        make_accelerator()


def test_evaluations_divide_an_epoch_evenly_and_end_it():
    assert [step for step in range(21) if is_evaluation_step(step, 10, 4)] == [3, 5, 8, 10, 13, 15, 18, 20]
    assert [step for step in range(5) if is_evaluation_step(step, 3, 9)] == [1, 2, 3, 4]


def test_random_numbers_differ_between_steps_and_between_processes():
    ranges = (range(3), range(20), range(4), range(2))  # seeds, steps, processes, forward passes
    assert len({seed_of(*each) for each in itertools.product(*ranges)}) == 480


def train_tiny(folder: str, micro_batch_size: int | None) -> dict[str, torch.Tensor]:
    return run_tiny(tiny_config(Path(folder), micro_batch_size=micro_batch_size))


@pytest.mark.slow
def test_two_processes_and_accumulation_train_like_one_process(tmp_path):
    runs = {"one": None, "accumulated": 3}
    parameters = {name: train_tiny(str(tmp_path / name), micro) for name, micro in runs.items()}
    first, second = run_on_ranks(train_tiny, 2, str(tmp_path / "two"), 3)
    for name, expected in parameters["one"].items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(parameters["accumulated"][name], expected, rtol=1e-5, atol=1e-6)
    for other in ("accumulated", "two"):
        for line, expected in zip(training_lines(tmp_path / other), training_lines(tmp_path / "one"), strict=True):
            assert line == pytest.approx(expected, rel=1e-5)
