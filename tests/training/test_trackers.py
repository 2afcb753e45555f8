"""Trackers: where W&B's project, name and id come from, and that a run that goes on is one run without a gap."""

import sys
import types

import pytest

from tests.training.tiny_task import TinyTask, run_tiny, tiny_config
from vl_absvit.config import RunConfig
from vl_absvit.errors import InputError
from vl_absvit.training import loop
from vl_absvit.training.trackers import ID_FILE, run_id, wandb_settings


class StandIn(types.ModuleType):
    """``wandb`` as far as a tracker asks of it: runs by id, which drop what is behind their count of steps."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.inits, self.runs, self.refusal = [], {}, None
        self.config = types.SimpleNamespace(update=lambda values, allow_val_change: None)

    def init(self, **asked):
        if self.refusal:
            raise self.refusal
        self.inits.append(asked)
        if asked["id"] in self.runs:
            self.runs[asked["id"]].step += 1
        return self.runs.setdefault(asked["id"], StandInRun())


class StandInRun:
    def __init__(self):
        self.history, self.axes, self.step = [], {}, 0

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, values, step=None):
        if step is None or step >= self.step:
            self.step = step or self.step + 1
            self.history.append(values)

    def finish(self):
        pass


@pytest.fixture
def wandb(monkeypatch):
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR", "WANDB_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(loop, "is_wandb_available", lambda: True)
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_project_and_name_come_from_the_config_then_the_environment_then_package_and_folder(monkeypatch, wandb):
    plain, named = RunConfig(output="runs/first/"), RunConfig(output="runs/first", project="mine", name="try 1")
    project, how = wandb_settings(plain, "a1")
    assert (project, how) == (
        "vl_absvit", {"name": "first", "id": "a1", "resume": "allow", "dir": "runs/first/"}
    )  # fmt: skip
    monkeypatch.setenv("WANDB_PROJECT", "of the lab")
    monkeypatch.setenv("WANDB_NAME", "of the shell")
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    project, how = wandb_settings(plain, "a1")
    assert (project, how["name"], how["dir"]) == ("of the lab", "of the shell", "/elsewhere")
    project, how = wandb_settings(named, "a1")
    assert (project, how["name"]) == ("mine", "try 1")


def test_the_id_is_kept_for_a_run_that_goes_on_and_new_for_another(tmp_path, wandb):
    first = run_id(RunConfig(output=str(tmp_path)))
    assert run_id(RunConfig(output=str(tmp_path), resume=True)) == first
    assert run_id(RunConfig(output=str(tmp_path))) != first
    (tmp_path / ID_FILE).write_text("../../elsewhere")
    with pytest.raises(InputError, match="wandb_id: expected the id of a W&B run, got '../../elsewhere'; remove"):
        run_id(RunConfig(output=str(tmp_path), resume=True))


def test_the_launchers_id_is_taken_where_it_gives_one(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "of-a-sweep")
    assert run_id(RunConfig(output=str(tmp_path))) == "of-a-sweep"


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_run_and_loses_no_step(tmp_path, wandb, monkeypatch):
    """Killed after its seventh step, of whose losses W&B has heard, it goes on from the sixth."""
    save = TinyTask.save

    def killed_later(self, folder):
        if self.seen > 6:
            raise KeyboardInterrupt
        save(self, folder)

    monkeypatch.setattr(TinyTask, "save", killed_later)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tiny_config(tmp_path / "mine", trackers=("wandb",)))
    monkeypatch.setattr(TinyTask, "save", save)
    run_tiny(tiny_config(tmp_path / "mine", trackers=("wandb",), resume=True))
    first, second = wandb.inits
    assert first == second and (first["project"], first["name"]) == ("vl_absvit", "mine")
    ((_, run),) = wandb.runs.items()
    assert run.axes == {"step": None, "*": "step"}
    assert {values["step"] for values in run.history if "fit" in values} == set(range(1, 13))
    assert {values["step"] for values in run.history if "select/score" in values} == set(range(1, 13))


@pytest.mark.slow
def test_what_wandb_refuses_is_one_line(tmp_path, wandb):
    wandb.refusal = wandb.Error("api_key not configured\n(no-tty)")
    with pytest.raises(InputError, match=r"W&B does not start: api_key not configured \(no-tty\); WANDB_MODE=offline"):
        run_tiny(tiny_config(tmp_path, trackers=("wandb",)))
