"""Preemption: whoever wants the machine back asks with a signal and, some seconds later, kills.

Schedulers and ``torchrun`` send SIGTERM; under Slurm, ``--signal`` can send SIGUSR1 well before the time is up.
"""

import os
import shlex
import signal
import sys
import time
from types import FrameType

from vl_absvit.distributed import gather_objects

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# One request may arrive twice: sent to all processes of a job, and passed on by the launcher among them.
SAME_REQUEST_SECONDS = 5.0


class Preemption:
    """While entered, a signal asks the run to stop at its next safe point; a second one later on ends it at once."""

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
        """Whether a signal has reached any process: one answer for all of them, which all call this."""
        return any(gather_objects([self._asked_at is not None]))


def command_to_go_on() -> str:
    """This process's command, resuming; what launched it is not known here."""
    command = shlex.join(sys.argv)
    return command if "--run.resume true" in command else f"{command} --run.resume true"
