"""The pictures of millions that were met before, by their content: sixteen bytes each."""

import numpy as np


class KnownPictures:
    """First picture of every content: a hash and an id, in sorted runs of which each is longer than the next."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """The ids of pictures with these hashes, -1 where there is none, (pictures,)."""
        found = np.full(len(hashes), -1, dtype=np.int64)
        for of_run, ids in self._runs:
            places = np.minimum(np.searchsorted(of_run, hashes), len(of_run) - 1)
            found = np.where(of_run[places] == hashes, ids[places], found)
        return found

    def add(self, hashes: np.ndarray, ids: np.ndarray) -> None:
        """Remember pictures, none of which is known."""
        if not len(hashes):
            return
        # Runs of like length are joined, so that a picture is sorted anew as often as its number has bits, and no more.
        while self._runs and len(self._runs[-1][0]) <= len(hashes):
            before, ids_before = self._runs.pop()
            hashes, ids = np.concatenate([before, hashes]), np.concatenate([ids_before, ids])
        order = np.argsort(hashes, kind="stable")
        self._runs.append((hashes[order], ids[order]))
