"""Ways to divide the samples of a step into passes, the memory and time of each, and the recommended one."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from vl_absvit.config import OptimConfig
from vl_absvit.data.loaders import samples_per_pass
from vl_absvit.planning.counter import Step

SHOWN = 3
"""Number of sizes that fit, from the largest on, after which no smaller ones are tried."""


class Choice(NamedTuple):
    """One way to run the configured optimizer step, and the memory and operations of a process."""

    precision: str
    checkpointing: bool
    micro_batch_size: int  # samples per process and pass
    passes: int  # per optimizer step
    peak_bytes: int
    flops: int  # of the step
    fits: bool


class Rate(NamedTuple):
    """The speed of a training process."""

    flop_per_second: float  # reached in forward and backward passes
    optimizer_seconds: float  # of one step of the optimizer, gradient clipping included
    source: str  # in words: measured, or assumed by whom


def micro_batch_sizes(optim: OptimConfig, processes: int, least: int = 1) -> list[int]:
    """Powers of two that divide a process's share of the batch, that share, and the configured size if it divides it.

    Args:
        least: samples that a pass needs.

    Raises:
        ConfigError: the batch does not divide into so many processes.
    """
    share = samples_per_pass(optim.batch_size, None, processes)
    sizes = {2**power for power in range(share.bit_length())} | {share, optim.micro_batch_size or share}
    return sorted(size for size in sizes if size >= least and share % size == 0)


def try_choices(
    count: Callable[..., Step], optim: OptimConfig, processes: int, sizes: Sequence[int], state_bytes: int, room: float
) -> Iterator[Choice]:
    """Every precision with and without checkpointing, the sizes descending to the third that fits.

    Args:
        count: ``Counter.count`` or the like.
        sizes: of micro-batches, ascending.
        state_bytes: that a process holds beside what a pass needs.
        room: bytes that a process may take.
    """
    share = samples_per_pass(optim.batch_size, None, processes)
    for precision in ("bf16", "fp32"):
        for checkpointing in (False, True):
            fitting = 0
            for size in reversed(sizes):
                passes = share // size
                step = count(size, passes, precision=precision, checkpointing=checkpointing)
                peak = state_bytes + step.peak_bytes
                yield Choice(precision, checkpointing, size, passes, peak, step.flops, peak <= room)
                fitting += peak <= room
                if fitting == SHOWN:
                    break


def recommend(choices: Sequence[Choice], optim: OptimConfig, processes: int, precision: str) -> Choice | None:
    """The choice to take, of those that fit; None if none does.

    It keeps the configured ``precision`` where that fits, and the configured micro-batch size or a larger one: hard
    captions of retrieval are those of one pass. Of such, it recomputes nothing where possible, and then has the largest
    micro-batch.
    """
    wanted = min(optim.micro_batch_size or optim.batch_size, optim.batch_size // processes)

    def rank(choice: Choice) -> tuple:
        size = choice.micro_batch_size
        return choice.precision == precision, min(size, wanted), not choice.checkpointing, size

    return max((choice for choice in choices if choice.fits), key=rank, default=None)


def overrides(choice: Choice, configured_precision: str) -> str:
    """Command-line options that make a run take this choice."""
    options = {
        "optim.micro_batch_size": choice.micro_batch_size,
        "vision.gradient_checkpointing": str(choice.checkpointing).lower(),
    }
    if choice.precision != configured_precision:
        options["run.precision"] = choice.precision
    return " ".join(f"--{name} {value}" for name, value in options.items())


def step_seconds(choice: Choice, rate: Rate) -> float:
    """Time of one optimizer step; loading and communication are left out."""
    return choice.flops / rate.flop_per_second + rate.optimizer_seconds


def run_steps(optim: OptimConfig, samples: int) -> int:
    """Optimizer steps of a whole run on so many training samples; 0 where they are fewer than one batch."""
    return optim.epochs * (samples // optim.batch_size)
