"""Memory and time of real training steps on this machine, for comparison with the counted ones."""

import ctypes
import gc
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vl_absvit.config import Precision, TaskConfig
from vl_absvit.planning.counter import Counter
from vl_absvit.planning.step import bare_task, build_model, make_batch, run_pass
from vl_absvit.tasks.facts import Facts
from vl_absvit.training.optim import build_optimizer

PROCESS = Path("/proc/self")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class Measured(NamedTuple):
    """One process's step on made-up inputs."""

    pass_seconds: float  # forward and backward
    optimizer_seconds: float  # clipping and AdamW
    peak_bytes: int  # beyond what the process held before there was a model


class PeakMemory:
    """The peak of memory since this object was made, beyond the memory in use then."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        gc.collect()
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)  # memory that was freed and kept would hide what is taken from it
            (PROCESS / "clear_refs").write_text("5")  # the peak starts anew
            self._before = _status("VmRSS")

    def read(self) -> int:
        """Bytes until now."""
        return (torch.cuda.max_memory_allocated() if self._is_cuda else _status("VmHWM")) - self._before


def measure_step(config: TaskConfig, facts: Facts, samples: int, device: torch.device) -> Measured:
    """Training steps of ``samples`` in one pass, with precision and checkpointing as configured.

    The first one makes the optimizer's states and warms up, the second shows the memory, the third one is timed.
    """
    keep_freed_memory(False)
    memory = PeakMemory(device)
    model = build_model(config, facts).to(device)
    optimizer = build_optimizer(model, bare_task(config, facts, model).lr_of(), config.optim)
    batch = make_batch(config, facts, samples, device)

    def take_step() -> tuple[float, float]:
        """Seconds of the pass and of the update."""
        start = _now(device)
        run_pass(config, facts, model, batch)
        middle = _now(device)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm or math.inf)
        optimizer.step()
        end = _now(device)
        optimizer.zero_grad()
        return middle - start, end - middle

    take_step()
    take_step()
    peak = memory.read()
    keep_freed_memory(True)
    return Measured(*take_step(), peak)


def hold_against_count(
    config: TaskConfig, facts: Facts, samples: int, device: torch.device, precision: Precision
) -> dict[str, Any]:
    """The result of ``measure_step`` in another precision, and the counts for the same step."""
    counter = Counter(config, facts, "cuda" if device.type == "cuda" else "cpu")
    checkpointing = config.vision.gradient_checkpointing
    counted = counter.count(samples, 1, precision=precision, checkpointing=checkpointing)
    step = measure_step(replace(config, run=replace(config.run, precision=precision)), facts, samples, device)
    return {
        "precision": precision,
        "checkpointing": checkpointing,
        "samples": samples,
        **step._asdict(),
        "counted_bytes": counter.states.total + counted.peak_bytes,
        "flop_per_second": counted.flops / step.pass_seconds,
    }


def keep_freed_memory(keep: bool) -> None:
    """Have the C library keep freed memory to use it again, as it does by default, or give it back at once.

    Keeping saves time and hides how much is needed.
    """
    threshold = 2**25 if keep else 2**16
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        ctypes.CDLL(None).mallopt(option, threshold)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _status(entry: str) -> int:
    """Bytes that the kernel names in the process's status."""
    found = re.search(rf"{entry}:\s+(\d+) kB", (PROCESS / "status").read_text())
    assert found is not None, f"Linux names {entry} in {PROCESS / 'status'}"
    return 1024 * int(found[1])
