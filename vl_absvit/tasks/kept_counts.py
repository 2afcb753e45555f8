"""What an evaluation of labelled pixels has counted so far, kept on disk, so that an interrupted one goes on.

Shapes: C classes.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vl_absvit.evaluation.chunk_store import FileChunkStore

SECONDS_BETWEEN = 10.0
"""Least time between two writings of a process. An interruption costs as much, and the picture at work."""


class Counted(NamedTuple):
    """Pictures whose pixels were counted."""

    counts: np.ndarray  # (C, C) int64
    places: list[int]  # of the pictures, in their data set

    @classmethod
    def nothing(cls, classes: int) -> "Counted":
        """No picture yet."""
        return cls(np.zeros((classes, classes), np.int64), [])


def total(parts: Iterable[Counted], classes: int) -> Counted:
    """The pictures of all parts."""
    parts = [Counted.nothing(classes), *parts]
    return Counted(np.sum([part.counts for part in parts], axis=0), [place for part in parts for place in part.places])


def read_counted(store: FileChunkStore, classes: int) -> Counted:
    """What was counted before. One process calls this, before any process keeps something."""
    arrays = [array for array in map(store.get, store.names()) if array is not None]
    parts = [Counted(array[: classes**2].reshape(classes, classes), array[classes**2 :].tolist()) for array in arrays]
    return total(parts, classes)


class Keeper:
    """Keeps what one process of one launch has counted, in one file, which is whole after every writing.

    Args:
        store: started; None keeps nothing.
    """

    def __init__(self, store: FileChunkStore | None) -> None:
        self._store, self._written = store, time.monotonic()

    def keep(self, counted: Counted, is_all: bool = False) -> None:
        """Write what was counted since this launch began, if that was not done just now.

        Args:
            is_all: whether nothing comes after it, so that it is written in any case.
        """
        is_due = is_all or time.monotonic() - self._written >= SECONDS_BETWEEN
        if self._store is None or not is_due or not counted.places:
            return
        # No launch counts a picture again that another has kept: its first one names the file.
        self._store.put(f"{counted.places[0]:08d}", np.concatenate([counted.counts.ravel(), counted.places]))
        self._written = time.monotonic()
