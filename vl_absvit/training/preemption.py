"""Preemption: a scheduler that takes a machine back sends a signal and kills the run some seconds later.

Schedulers and ``torchrun`` send SIGTERM. Under Slurm, ``--signal`` can send SIGUSR1 well before the time is up.
"""

import os
import shlex
import signal
import time
from types import FrameType

from vl_absvit.distributed import is_true_anywhere
from vl_absvit.training.environment import command

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# One request may arrive twice: the scheduler signals all processes, and the launcher passes its own signal on.
SAME_REQUEST_SECONDS = 5.0


class Preemption:
    """Inside, a signal asks the run to stop at its next safe point. A second, later signal ends it at once."""

    def __init__(self) -> None:
        self._asked_at: float | None = None

    def __enter__(self) -> "Preemption":
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def is_asked_for(self) -> bool:
        """Whether a signal has reached any process. All processes call this and get the same answer."""
        return is_true_anywhere(self._asked_at is not None)


def command_to_go_on() -> str:
    """This process's command with ``--run.resume true``. The launcher's command is not known here."""
    words = shlex.join(command())
    return words if "--run.resume true" in words else f"{words} --run.resume true"
