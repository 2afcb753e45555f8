"""Finetuning that is killed, or asked to stop, at any moment, and gone on with, ends as if nothing had happened.

What was met, and when, is recorded as properties of the tests: ``pytest --junitxml FILE``.
"""

import functools
import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fork_server import LAUNCHERS_KILL, ForkServer, Outcome
from tests.run_folders import assert_same_end
from tests.tiny_segmentation import pixels, tiny_segmentation_config  # noqa: F401
from tests.tiny_tasks import KINDS, tiny_config
from tests.tiny_vqa import tiny_vqa_config, write_config
from vl_absvit.config import UPerNetConfig
from vl_absvit.training.checkpoint import find_checkpoint

pytestmark = pytest.mark.slow
SCRIPT = "scripts/finetune_vqa.py"
OTHER_SCRIPTS = {
    "pairs": "scripts/pretrain_pairs.py",
    "nlvr2": "scripts/finetune_nlvr2.py",
    "snli_ve": "scripts/finetune_snli_ve.py",
}
LONG = ("--run.evaluations_per_epoch", 2)  # two epochs of five steps; saves in the middle of an epoch, too
SHORT = ("--optim.batch_size", 20)  # two epochs of three steps
TRAINING = "optimizer steps of"  # in the line after which training begins
Launch = Callable[..., Outcome]


class Whole(NamedTuple):
    """A run that nothing met."""

    run: Path
    seconds: float  # of training


class Met(NamedTuple):
    """What a launch was at when its signal ended it, or that it came to its end, and what became of it."""

    moment: str
    outcome: Outcome


@pytest.fixture(scope="module")
def launch(fork_server, world, tmp_path_factory) -> Launch:
    """Start or go on with a finetuning in the named folder."""
    folder = tmp_path_factory.mktemp("config")
    config = write_config(tiny_vqa_config(world, folder / "unused", dropout=0.1), folder / "vqa.yaml")
    return functools.partial(going_on, fork_server, SCRIPT, config)


def going_on(
    fork_server: ForkServer, script: str, config: Path, run: Path, *options: object, **disturbance: object
) -> Outcome:
    """Start or go on with a finetuning by a script and its config."""
    arguments = ("--config", config, "--run.output", run, *options, "--run.resume", "true")
    return fork_server.run(script, *arguments, **disturbance)


@pytest.fixture(scope="module")
def whole(launch, tmp_path_factory) -> Callable[..., Whole]:
    """An undisturbed run with some options."""

    @functools.cache
    def whole(*options: object, processes: int = 1) -> Whole:
        return undisturbed_run(launch, tmp_path_factory.mktemp("whole") / "run", *options, processes=processes)

    return whole


def undisturbed_run(launch: Launch, run: Path, *options: object, processes: int = 1) -> Whole:
    outcome = launch(run, *options, processes=processes, since=TRAINING)
    assert outcome.codes == [0] * processes, outcome.output
    return Whole(run, outcome.seconds)


def moment(run: Path, outcome: Outcome) -> str:
    """What a launch was at when it ended, from what it said and left behind."""
    for words, name in (("done: ", "at the end"), ("asked to stop by a signal", "stopped when asked")):
        if words in outcome.output:
            return name
    if TRAINING not in outcome.output:
        return "starting"
    if list((run / "checkpoints").glob("*.new")):
        return "saving"
    saved, _ = find_checkpoint(run / "checkpoints/last")
    if saved is None:
        return "before the first save"
    step = json.loads((saved / "training_state.json").read_text())["step"]
    lines = (run / "metrics.jsonl").read_text().splitlines()
    is_evaluated = any(line.startswith(f'{{"step": {step}, ') and "select/" in line for line in lines)
    return "between saves" if is_evaluated else "evaluating"


def disturbed(
    launch: Launch,
    run: Path,
    undisturbed: Whole,
    before: list[Met],
    draw: random.Random,
    signals: Callable[[], dict[int, int]],
    processes: int = 1,
    options: tuple[object, ...] = LONG,
) -> list[Met]:
    """Launches of one run up to its end, each met by signals at a random moment: every sixth from its start on, the
    others in training, where they are not over before.

    Args:
        before: launches of other runs, which tell whether the machine has become slower or faster.
    """
    met: list[Met] = []
    while not met or met[-1].moment != "at the end":
        longest = undisturbed.seconds
        for each in (*before, *met):
            longest *= 0.8 if each.moment == "at the end" else 1.05
        since, after = draw.choice(["", *[TRAINING] * 5]), draw.uniform(0, longest)
        outcome = launch(run, *options, processes=processes, since=since, after=after, signals=signals())
        met.append(Met(moment(run, outcome), outcome))
    return met


def steps_gone_on_from(met: list[Met]) -> set[int]:
    lines = [line for each in met for line in each.outcome.output.splitlines()]
    return {int(line.split(" at step ")[1].split()[0]) for line in lines if line.startswith("going on from ")}


@pytest.fixture
def record(record_property):
    """Put on record at what moments launches ended, and how."""

    def record(met: list[Met]) -> None:
        endings = Counter(f"{each.moment}: {each.outcome.codes}" for each in met)
        record_property("launches", len(met))
        record_property("ended", ", ".join(f"{ending} x {times}" for ending, times in sorted(endings.items())))
        record_property("gone on from steps", str(sorted(steps_gone_on_from(met))))

    return record


def test_a_launch_that_is_killed_at_once_is_not_taken_for_the_one_before(launch, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert moment(first, launch(first, *SHORT)) == "at the end"
    assert moment(second, launch(second, *SHORT, after=0.0, signals={0: signal.SIGKILL})) == "starting"


def in_training(met: list[Met]) -> list[Met]:
    return [each for each in met if each.moment not in ("starting", "at the end")]


def test_kills_at_random_moments_change_nothing(launch, whole, tmp_path, record):
    undisturbed, draw = whole(*LONG), random.Random(0)
    met: list[Met] = []
    while sum(each.outcome.codes != [0] for each in met) < 10 or len(in_training(met)) < 5:
        run = tmp_path / str(len(met))
        met += disturbed(launch, run, undisturbed, met, draw, lambda: {0: signal.SIGKILL})
        assert_same_end(run, undisturbed.run)
    record(met)
    assert {each.outcome.codes[0] for each in met} == {0, -signal.SIGKILL}
    assert len(steps_gone_on_from(met)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_random_moments_change_no_training_on_pairs_or_statements(fork_server, world, tmp_path, record, kind):
    parts = {"dropout": 0.1} if kind == "pairs" else {}
    config = write_config(tiny_config(kind, world, tmp_path, tmp_path / "unused", **parts), tmp_path / "config.yaml")
    size = 4 if kind == "pairs" else 2  # false captions are those of other images of the batch
    launch = functools.partial(going_on, fork_server, OTHER_SCRIPTS[kind], config)
    options = ("--optim.batch_size", size)
    undisturbed, draw = undisturbed_run(launch, tmp_path / "whole", *options), random.Random(3)
    met: list[Met] = []
    while len(in_training(met)) < 3:
        run = tmp_path / str(len(met))
        met += disturbed(launch, run, undisturbed, met, draw, lambda: {0: signal.SIGKILL}, options=options)
        assert_same_end(run, undisturbed.run)
    record(met)
    assert {each.outcome.codes[0] for each in met} == {0, -signal.SIGKILL}


def test_signals_that_ask_to_stop_at_random_moments_change_nothing(launch, whole, tmp_path, record):
    options = (*LONG, "--data.num_workers", 1)  # the loader process is sent the signals, too
    undisturbed, draw = whole(*options), random.Random(1)
    met: list[Met] = []
    while sum(each.moment == "stopped when asked" for each in met) < 4:
        run = tmp_path / str(len(met))
        met += disturbed(launch, run, undisturbed, met, draw, lambda: {0: signal.SIGTERM}, options=options)
        assert_same_end(run, undisturbed.run)
    record(met)
    # Outside of training there is nothing to save, and the signal is death as anywhere. A moment lies between that and
    # the words by which it is told.
    assert {each.outcome.codes[0] for each in met} <= {0, -signal.SIGTERM}
    assert sum(each.moment != "stopped when asked" for each in in_training(met)) <= 1
    for each in met:
        if each.outcome.codes == [0] and each.moment == "stopped when asked":
            assert each.outcome.output.splitlines()[-1].endswith("--run.resume true")
    assert len(steps_gone_on_from(met)) > 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_to_one_or_both_of_two_processes_change_nothing(launch, whole, tmp_path, record, number):
    undisturbed, draw = whole(*LONG, processes=2), random.Random(2)
    met: list[Met] = []

    def signals() -> dict[int, int]:
        return dict.fromkeys(draw.choice([(0,), (1,), (0, 1)]), number)

    while len(in_training(met)) < 2:
        run = tmp_path / str(len(met))
        met += disturbed(launch, run, undisturbed, met, draw, signals, processes=2)
        assert_same_end(run, undisturbed.run)
    record(met)
    for each in met:
        # A process whose neighbour has died ends, too: none waits until the launcher kills it.
        assert -LAUNCHERS_KILL not in each.outcome.codes
        if each.moment == "stopped when asked":
            assert each.outcome.output.count("asked to stop by a signal") == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_kills_in_segmentation_change_nothing(fork_server, pixels, tmp_path, record, processes):  # noqa: F811
    head = UPerNetConfig(channels=8, auxiliary_channels=6, dropout=0.1)
    config = tiny_segmentation_config(pixels, tmp_path / "unused", head=head, optim={"batch_size": 2 * processes})
    file = write_config(config, tmp_path / "segmentation.yaml")
    launch = functools.partial(going_on, fork_server, "scripts/finetune_segmentation.py", file)
    outcome = launch(tmp_path / "whole", *LONG, processes=processes, since=TRAINING)
    assert outcome.codes == [0] * processes, outcome.output
    undisturbed, draw = Whole(tmp_path / "whole", outcome.seconds), random.Random(3)
    met: list[Met] = []

    def signals() -> dict[int, int]:
        return dict.fromkeys(draw.choice([(rank,) for rank in range(processes)]), signal.SIGKILL)

    while len(in_training(met)) < 3:
        run = tmp_path / str(len(met))
        met += disturbed(launch, run, undisturbed, met, draw, signals, processes)
        assert_same_end(run, undisturbed.run)
    record(met)


def checkpoints(run: Path) -> list[str]:
    """The manifests of what a run would go on from, and of its best model."""
    found = [find_checkpoint(run / "checkpoints" / name)[0] for name in ("last", "best")]
    return [folder and (folder / "manifest.json").read_text() for folder in found]


def test_a_kill_before_each_operation_that_writes_a_checkpoint_changes_nothing(launch, whole, tmp_path, record):
    run, met = tmp_path / "run", []
    before, operation = None, 0
    while not met or met[-1].outcome.codes != [0]:
        # Once a checkpoint is complete, the next launch starts with another one, and with its first operation.
        operation = operation + 1 if checkpoints(run) == before else 1
        before = checkpoints(run)
        outcome = launch(run, *SHORT, killed_before=operation)
        met.append(Met(moment(run, outcome), outcome))
    assert_same_end(run, whole(*SHORT).run)
    record(met)
    assert {each.outcome.codes[0] for each in met[:-1]} == {-signal.SIGKILL}
    assert len(met) > 30
