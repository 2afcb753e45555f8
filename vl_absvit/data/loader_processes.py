"""Loader processes that leave it to the main process to answer signals; it needs them until it stops.

Launchers and schedulers send the signals that ask for the machine to all processes. A loader process that ended by one
would take the main process with it before it could save.
"""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class SteadyLoader(DataLoader):
    """A ``DataLoader`` whose processes are ended by nobody but the main process, and end with it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, worker_init_fn=_begin, **options)

    def __iter__(self) -> Iterator[Any]:
        # Processes are born with the signals blocked: at no moment could one end them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(_: int) -> None:
    """In a loader process, before it loads anything."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a start method other than fork may have lost it
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(main_process: int) -> None:
    """End when the main process says so: it does where it ends with an error, and waits. Others are not listened to."""
    while signal.sigwaitinfo(SIGNALS).si_pid != main_process:
        pass
    os._exit(0)
