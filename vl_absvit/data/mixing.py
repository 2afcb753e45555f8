"""Samples of several sources in exact shares of every batch, in an order that step and seed alone decide."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np

from vl_absvit.errors import ConfigError

GROUPS_AT_ONCE = 4096
"""Groups of a source that are read at a time. Those of prepared folders have a megabyte each: 4 GB of files, which the
system's cache holds, are read from the disk once in an epoch."""


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in exactly the proportions of positive weights."""
    fractions = [Fraction(weight) for weight in weights]
    return tuple(int(fraction * lcm(*(each.denominator for each in fractions))) for fraction in fractions)


@cache
def counts_of_steps(weights: tuple[int, ...], batch_size: int, steps: int) -> np.ndarray:
    """Samples of each source in each of the first batches, (steps, sources); a row sums to the batch size.

    By largest remainders, which are carried over: after any number of steps each source has had its share of all
    samples to within one sample. The first of equal remainders wins.

    Args:
        weights: positive whole numbers.
    """
    total, owed = sum(weights), np.zeros(len(weights), dtype=object)  # in units of 1 / total of a sample
    counts = np.zeros((steps, len(weights)), dtype=np.int64)
    for step in range(steps):
        owed = owed + np.array([weight * batch_size for weight in weights], dtype=object)
        whole = np.array([max(0, each // total) for each in owed], dtype=object)
        for source in sorted(range(len(weights)), key=lambda each: (whole[each] * total - owed[each], each)):
            if sum(whole) == batch_size:
                break
            whole[source] += 1
        owed, counts[step] = owed - whole * total, whole.astype(np.int64)
    return counts


class Mixture:
    """The samples of every batch. Each source is read in epochs of its own, each sample once in each.

    Args:
        sizes: samples of each source; those of all sources are numbered one source after the other.
        weights: share of each source in a batch; None takes its samples.
        seed: of the orders.
        groups: for each source, the group that each of its samples is in, (samples,), if those of a group are better
            read at about the same time; None takes the samples of a source in any order.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float | None],
        seed: int,
        groups: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        self.sizes, self._seed = list(sizes), seed
        self._groups = [None] * len(sizes) if groups is None else list(groups)
        given = [size if weight is None else weight for size, weight in zip(sizes, weights, strict=True)]
        self._weights = whole_weights(given)
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def batches(self, batch_size: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples of the batches of an epoch of the run, which has as many steps as all samples fill.

        Returns:
            Numbers of samples, (steps, batch_size), and the source's own epoch of each, likewise.

        Raises:
            ConfigError: there are fewer samples than one batch holds.
        """
        if len(self) < batch_size:
            raise ConfigError(f"optim.batch_size {batch_size} is more than the {len(self)} training samples")
        steps = len(self) // batch_size
        counts = counts_of_steps(self._weights, batch_size, (epoch + 1) * steps)
        before, counts = counts[: epoch * steps].sum(axis=0), counts[epoch * steps :]
        totals = counts.sum(axis=0)
        drawn = [self._draw(number, int(before[number]), int(totals[number])) for number in range(len(self.sizes))]
        source = np.concatenate([np.repeat(np.arange(len(self.sizes)), row) for row in counts])
        flat = np.empty((2, steps * batch_size), dtype=np.int64)
        for number, samples in enumerate(drawn):
            flat[:, source == number] = samples
        batches = flat.reshape(2, steps, batch_size)
        for step in range(steps):
            generator = np.random.Generator(np.random.PCG64([self._seed, epoch, step]))
            batches[:, step] = batches[:, step, generator.permutation(batch_size)]
        return batches[0], batches[1]

    def repeats(self, batch_size: int, epochs: int) -> list[float]:
        """How often a run reads each source."""
        steps = epochs * (len(self) // batch_size)
        return (counts_of_steps(self._weights, batch_size, steps).sum(axis=0) / self.sizes).tolist()

    def _draw(self, source: int, start: int, number: int) -> np.ndarray:
        """Samples of a source from its ``start``-th on, counted through its epochs, and their epochs, (2, number)."""
        size, parts = self.sizes[source], []
        for epoch in range(start // size, -(-(start + number) // size)):
            order = self._order(source, epoch)
            rows = order[max(0, start - epoch * size) : start + number - epoch * size] + self._first[source]
            parts.append(np.stack([rows, np.full_like(rows, epoch)]))
        return np.concatenate(parts, axis=1) if parts else np.empty((2, 0), dtype=np.int64)

    def _order(self, source: int, epoch: int) -> np.ndarray:
        """A random order of a source's samples.

        Groups are taken ``GROUPS_AT_ONCE`` at a time, in random order; all samples of these in random order, too.
        """
        order = np.random.Generator(np.random.PCG64([self._seed, source, epoch, 1])).permutation(self.sizes[source])
        groups = self._groups[source]
        if groups is None:
            return order
        turn = np.random.Generator(np.random.PCG64([self._seed, source, epoch, 2])).permutation(int(groups.max()) + 1)
        return order[np.argsort(turn[groups[order]] // GROUPS_AT_ONCE, kind="stable")]
