"""Compare two recipes by the difference of their scores, seed by seed.

Runs of the same seed share data and start. An easy or hard seed changes both scores but not their difference.
"""

from collections.abc import Mapping
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Share of such intervals that contain the true mean, if differences are normally distributed."""


class PairedDifference(NamedTuple):
    """Scores minus the reference's scores on common seeds."""

    by_seed: dict[int, float]
    mean: float
    standard_error: float | None  # of the mean; None with a single seed
    interval: tuple[float, float] | None  # of the mean, by Student's t; degrees of freedom: number of seeds - 1

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0. With a single seed it never does."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def paired_difference(scores: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference | None:
    """The mean over seeds of ``scores`` minus ``reference``, with its standard error s / sqrt(n) and interval.

    Args:
        scores: seed -> score.
        reference: seed -> score of the recipe to compare with.

    Returns:
        None if there is no common seed.
    """
    by_seed = {seed: scores[seed] - reference[seed] for seed in sorted(scores.keys() & reference.keys())}
    if not by_seed:
        return None
    middle, count = mean(by_seed.values()), len(by_seed)
    if count == 1:
        return PairedDifference(by_seed, middle, None, None)
    error = stdev(by_seed.values()) / sqrt(count)
    reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return PairedDifference(by_seed, middle, error, (middle - reach, middle + reach))
