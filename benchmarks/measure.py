"""Time, floating-point operations and memory of named stages, and what the machine could do at best."""

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.memory import MemoryCounter
from vl_absvit.config import Precision
from vl_absvit.errors import ConfigError
from vl_absvit.planning.flops import flop_counter
from vl_absvit.training.environment import environment

PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
MATMUL = "matmul"
MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}  # large enough to keep the device busy

Stage = Callable[[Any], AbstractContextManager[None]]
"""``with stage("name"): ...`` measures what stands inside."""


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Median, least and greatest."""
    values = [float(value) for value in values]
    return Spread(statistics.median(values), min(values), max(values))


class Measurements(NamedTuple):
    """What stages took."""

    seconds: dict[Any, list[float]]  # of every timed run of a stage, in order
    flops: dict[Any, int]  # of one run; two per multiply-add of matrix products, convolutions and attention
    peak_bytes: dict[Any, int]  # held at most: on CUDA all memory, the model's included; else the turn's tensors


class Stopwatch:
    """Seconds of stages by a clock; on CUDA it waits for the device on both ends, and sees its memory."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._is_cuda, self._clock = device.type == "cuda", clock
        self.seconds: dict[Hashable, list[float]] = defaultdict(list)
        self.peak_bytes: dict[Hashable, int] = defaultdict(int)

    @contextmanager
    def stage(self, name: Hashable) -> Iterator[None]:
        """Time one stage."""
        if self._is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = self._clock()
        yield
        if self._is_cuda:
            torch.cuda.synchronize()
            self.peak_bytes[name] = max(self.peak_bytes[name], torch.cuda.max_memory_allocated())
        self.seconds[name].append(self._clock() - start)


class Turns(NamedTuple):
    """How often sides take turns, and where."""

    device: torch.device
    precision: Precision
    repeats: int  # timed rounds; one more counts operations
    advance: Callable[[], object]  # called after every round


class FlopCounter:
    """Floating-point operations of stages, as PyTorch counts them."""

    def __init__(self) -> None:
        self.flops: dict[Hashable, int] = {}

    @contextmanager
    def stage(self, name: Hashable) -> Iterator[None]:
        """Count one stage."""
        with flop_counter() as counter:
            yield
        self.flops[name] = counter.get_total_flops()


def take_turns(
    sides: Sequence[Callable[[Stage], object]],
    device: torch.device,
    repeats: int,
    advance: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Measurements:
    """Run all sides one after the other, again and again, so that whatever else the machine does meets all of them.

    Args:
        sides: each runs its stages; the first round counts operations and memory, and warms up.
        repeats: timed rounds.
        advance: called after every round, the first included.
        clock: in seconds; the wall's, unless told.
    """
    operations, memory, watch = FlopCounter(), MemoryCounter(), Stopwatch(device, clock)

    @contextmanager
    def count(name: Hashable) -> Iterator[None]:
        with memory.stage(name), operations.stage(name):
            yield

    for stage in (count, *[watch.stage] * repeats):
        for side in sides:
            memory.begin_turn()
            side(stage)
        advance()
    peak_bytes = watch.peak_bytes if device.type == "cuda" else memory.peak_bytes
    return Measurements(dict(watch.seconds), operations.flops, dict(peak_bytes))


def matmul(device: torch.device, dtype: torch.dtype) -> Callable[[Stage], None]:
    """A side that multiplies two square matrices: what the machine can do at best, under the same conditions."""
    a, b = (torch.randn(MATMUL_SIDE[device.type], MATMUL_SIDE[device.type], device=device).to(dtype) for _ in range(2))

    def multiply(stage: Stage) -> None:
        with stage(MATMUL):
            a @ b

    return multiply


def pick_device(name: str) -> torch.device:
    """``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch finds no GPU on this machine; --device cpu needs none")
    return torch.device(name)


def describe_machine(device: torch.device) -> dict[str, object]:
    """What the times were taken on, and with."""
    return environment() | {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "torch_threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
