"""A process that has imported what the scripts import, and runs each of them in a fork of itself.

So a script starts at once, in a process of its own that can be killed at any moment. The server computes nothing with
torch: a fork has none of its parent's threads.
"""

import contextlib
import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tests.killing import before_operation, die, writing_a_checkpoint

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = (
    "jsonargparse",
    "datasets",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.roberta.modeling_roberta",
    "vl_absvit.tasks.vqa",
    "vl_absvit.tasks.retrieval",
    "vl_absvit.tasks.classification",
    "vl_absvit.training.loop",
)


class Outcome(NamedTuple):
    """What became of a script."""

    code: int  # exit code, or minus the number of the signal that ended it
    output: str  # all that it printed
    seconds: float


class ForkServer:
    """The server as its user sees it; scripts run one after the other, each on one thread of the CPU."""

    def __init__(self, log: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.fork_server", str(log)]
        self._log = log
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        script: str,
        *arguments: object,
        after: float | None = None,
        signal: int | None = None,
        killed_before: int | None = None,
    ) -> Outcome:
        """Run a script, named relative to the project's root.

        Args:
            after: seconds from the start to sending ``signal`` to it and its loader processes, if it still runs.
            killed_before: the number (from 1) of the operation that writes a checkpoint before which it is killed.
        """
        argv = [script, *map(str, arguments)]
        request = {"argv": argv, "after": after, "signal": signal, "killed_before": killed_before}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code, seconds = json.loads(self._process.stdout.readline())
        return Outcome(code, self._log.read_text(encoding="utf-8", errors="replace"), seconds)

    def close(self) -> None:
        """End the server."""
        self._process.stdin.close()
        self._process.wait()


def serve(log: Path) -> None:
    """Run what stdin asks for, until it ends."""
    for name in IMPORTS:
        importlib.import_module(name)
    os.fsync = lambda descriptor: None  # what a process leaves behind does not depend on it
    for line in sys.stdin:
        request, started = json.loads(line), time.monotonic()
        child = os.fork()
        if child == 0:
            become(request, log)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)  # done here as well as there: whichever comes first
        sys.stdout.write(json.dumps([wait(child, request, started), time.monotonic() - started]) + "\n")
        sys.stdout.flush()


def wait(child: int, request: dict[str, Any], started: float) -> int:
    """Exit code of a fork, which is sent its signal on the way."""
    is_due = request["signal"] is not None
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if is_due and time.monotonic() - started >= request["after"]:
            os.killpg(child, request["signal"])
            is_due = False
        time.sleep(0.001)


def become(request: dict[str, Any], log: Path) -> NoReturn:
    """Turn this fork into the script, with a process group of its own, as launchers give it."""
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code: Any = 1
    with contextlib.suppress(BaseException):
        sys.argv = request["argv"]
        if request["killed_before"] is not None:
            before_operation(request["killed_before"], die, writing_a_checkpoint)
        try:
            runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
