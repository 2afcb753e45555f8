"""A process that has imported what the scripts import, and runs each of them, or a function, in forks of itself.

So they start at once, in processes of their own that can be killed at any moment. The server computes nothing with
torch: a fork has none of its parent's threads.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from tests.killing import before_operation, die, writing_a_checkpoint

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = (
    "jsonargparse",
    "docstring_parser",
    "PIL.Image",
    "datasets.io.parquet",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.roberta.modeling_roberta",
    "vl_absvit.tasks.registry",
    "vl_absvit.training.loop",
    "tests.tiny_vqa",
)
IF_INSTALLED = ("attrs", "scipy.io", "deepspeed")  # what libraries import late, and where they can
SECONDS_TO_END = 30.0  # what launchers give to the processes beside one that failed, before they kill them
CALL = "call.pickle"
LAUNCHERS_KILL = signal.SIGALRM  # nothing else sends it, and nothing handles it


class Outcome(NamedTuple):
    """What became of a script."""

    codes: list[int]  # of each process: its exit code, or minus the number of the signal that ended it
    output: str  # all that they printed
    seconds: float  # to the end, counted as the time of signals is


class ForkServer:
    """The server as its user sees it; what it runs runs one after the other, each process on one thread of the CPU."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "output.log"
        command = [sys.executable, "-m", "tests.fork_server", str(self._log)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        script: str,
        *arguments: object,
        processes: int = 1,
        since: str = "",
        after: float = 0.0,
        signals: dict[int, int] | None = None,
        killed_before: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Outcome:
        """Run a script, named relative to the project's root, as a launcher does: where one process fails, all end.

        Args:
            since: words; time counts from the moment at which it has printed them.
            after: seconds to sending the signals.
            signals: for each process that is sent one, and its loader processes with it, the signal's number.
            killed_before: the number (from 1) of the operation that writes a checkpoint before which it is killed.
            environment: what the launcher says in variables.
        """
        request = {"argv": [script, *map(str, arguments)], "processes": processes, "killed_before": killed_before}
        request |= {"since": since, "after": after, "signals": list((signals or {}).items())}
        return self._ask(request | {"environment": environment or {}})

    def call(self, function: Callable[..., Any], *arguments: Any, processes: int = 1) -> list[Any]:
        """Results of a function in each of several processes, which find each other as those of a script do.

        Args:
            function: defined at the top of a module; returns tensors, numbers, strings or containers of them.
        """
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CALL).write_bytes(pickle.dumps((function, arguments)))
            request = {"call": folder, "processes": processes, "environment": dict(os.environ)}
            outcome = self._ask(request | {"since": "", "after": 0.0, "signals": [], "killed_before": None})
            assert not any(outcome.codes), outcome.output
            return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(processes)]

    def _ask(self, request: dict[str, Any]) -> Outcome:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        codes, seconds = json.loads(self._process.stdout.readline())
        return Outcome(codes, self._log.read_text(encoding="utf-8", errors="replace"), seconds)

    def close(self) -> None:
        """End the server."""
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


@functools.cache
def the_server() -> ForkServer:
    """The server of this process's tests, which ``conftest.py`` ends."""
    return ForkServer()


def serve(log: Path) -> None:
    """Run what stdin asks for, until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print when they are imported
    gc.disable()
    for name in IMPORTS:
        importlib.import_module(name)
    for name in IF_INSTALLED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "deepspeed" in sys.modules:  # it would compile how processes of a CPU talk; those of GPUs do without
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
    os.fsync = lambda descriptor: None  # what a process leaves behind does not depend on it
    make_options()
    gc.freeze()  # so that forks share it
    gc.enable()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(wait(start(request, log), request, log)) + "\n")
        answers.flush()
    gc.unfreeze()  # some libraries complain of what is left over


def make_options() -> None:
    """Make the options of every task's config, so that forks have them. Imported here, for tests import this file."""
    from vl_absvit.cli import config_parser
    from vl_absvit.tasks.registry import TASKS

    for task in TASKS.values():
        config_parser(task.config_class)


def start(request: dict[str, Any], log: Path) -> list[int]:
    """Fork the processes of a script, each with a process group of its own, as launchers give it."""
    # Emptied here: a process may be killed before it does anything.
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    environments = environments_of(request["processes"])
    children = []
    for environment in environments:
        child = os.fork()
        if child == 0:
            become(request, environment, output)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)  # done here as well as there: whichever comes first
        children.append(child)
    os.close(output)
    return children


def environments_of(processes: int) -> list[dict[str, str]]:
    """The variables by which processes find each other."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def wait(children: list[int], request: dict[str, Any], log: Path) -> tuple[list[int], float]:
    """Exit codes of processes that are sent their signals on the way and, where one of them fails, end together.

    Also the seconds that this took, from when time counts.
    """
    codes: dict[int, int] = {}
    due = [(request["after"], children[rank], number) for rank, number in request["signals"]]
    is_failing, passed, begun = False, 0.0, None
    while len(codes) < len(children):
        if begun is None and request["since"].encode() in log.read_bytes():
            begun = time.monotonic()
        passed = 0.0 if begun is None else time.monotonic() - begun
        for child in children:
            if child not in codes and (status := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(status[1])
        if any(codes.values()) and not is_failing:
            is_failing, begun = True, begun or time.monotonic()
            others = [child for child in children if child not in codes]
            due += [(passed, child, signal.SIGTERM) for child in others]
            due += [(passed + SECONDS_TO_END, child, LAUNCHERS_KILL) for child in others]
        for when, child, number in [each for each in due if begun is not None and each[0] <= passed]:
            due.remove((when, child, number))
            if child not in codes:
                os.killpg(child, number)
        time.sleep(0.001)
    return [codes[child] for child in children], passed


def become(request: dict[str, Any], environment: dict[str, str], output: int) -> NoReturn:
    """Turn this fork into a process of the script, or of the function."""
    os.setpgid(0, 0)
    os.environ |= request["environment"] | environment
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code: Any = 1
    with contextlib.suppress(BaseException):
        if request["killed_before"] is not None:
            before_operation(request["killed_before"], die, writing_a_checkpoint)
        try:
            if "call" in request:
                call(Path(request["call"]))
                code = 0
            else:
                sys.argv = request["argv"]
                runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def call(folder: Path) -> None:
    """Call the function that is asked for, and leave its result."""
    torch.set_num_threads(1)
    function, arguments = pickle.loads((folder / CALL).read_bytes())
    torch.save(function(*arguments), folder / f"{os.environ.get('RANK', '0')}.pt")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
