"""Loader processes that ignore signals from anyone but the main process, which needs them until it stops.

Launchers and schedulers send SIGTERM or SIGUSR1 to all processes when they take a machine back. If a loader process
ended by one, the main process would fail before it could save.
"""

import os
import signal
import threading
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class SteadyLoader(DataLoader):
    """A ``DataLoader`` whose processes end with the main process, and by its signals only."""

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=_begin, **options)

    def __iter__(self) -> _BaseDataLoaderIter:
        # Processes start with the signals blocked, so that none can end them before ``_begin`` runs.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(_: int) -> None:
    """Prepare a loader process before it loads anything."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # start methods other than fork may have lost the mask
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(main_process: int) -> None:
    """End by a signal of the main process, which sends one if it ends with an error, and waits. Ignore all others."""
    while signal.sigwaitinfo(SIGNALS).si_pid != main_process:
        pass
    os._exit(0)
