"""A call in a child process of bounded memory and time: what it says, and how it ends."""

import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from tests.run_script import run_script

MEMORY = 1 << 30
"""Bytes that a child may take beyond what it is born with."""
PROCESSOR_SECONDS = 30
SECONDS = 180
"""By the clock, on a machine however busy: only what waits for nothing gets there."""
FAULT_OF_OURS = 70


class Outcome(NamedTuple):
    """How a child ended."""

    code: int  # exit code; negative: the signal that ended it, such as SIGXCPU beyond its time
    out: str
    err: str


def run_bounded(
    call: Callable[[], int | None], *, memory: int = MEMORY, processor_seconds: int = PROCESSOR_SECONDS
) -> Outcome:
    """Call something in a forked child; what it returns is the exit code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush(), sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _be_the_child(call, out.fileno(), err.fileno(), memory, processor_seconds)
        _, status = os.waitpid(child, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "backslashreplace"))
    return Outcome(os.waitstatus_to_exitcode(status), *texts)


def _be_the_child(call: Callable[[], int | None], out: int, err: int, memory: int, processor_seconds: int) -> None:
    code: int | None = FAULT_OF_OURS
    try:
        os.dup2(out, 1), os.dup2(err, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", errors="backslashreplace", closefd=False)
        signal.alarm(SECONDS)
        torch.set_num_threads(1)  # the parent's threads are not there
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (processor_seconds, processor_seconds + 1))
        code = call()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code or 0)


def complaint_of(code: int, script: str, *arguments: object, **bounds: int) -> str:
    """The one line of a script that must refuse its input within bounds, without ``error:``."""
    outcome = run_bounded(lambda: run_script(script, *arguments), **bounds)
    lines = outcome.err.splitlines()
    complaints = [line for line in lines if line.startswith("error")]
    assert outcome.code == code, f"exit code {outcome.code}: {outcome.err[-2000:]}"
    assert "Traceback" not in outcome.err and complaints == lines[-1:], outcome.err[-2000:]
    line = complaints[0].removeprefix("error: ")
    assert line.isprintable() and len(line) < 3000, line
    return line
