"""Is one recipe better than another? The difference of their scores, seed by seed.

Runs of the same seed share data and start: what makes a seed easy or hard is in both, and not in their difference.
"""

from collections.abc import Mapping
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Of the interval: the share of such intervals that hold the true mean, where differences are normally distributed."""


class PairedDifference(NamedTuple):
    """Scores minus those of a reference on the seeds that both have."""

    by_seed: dict[int, float]
    mean: float
    standard_error: float | None  # of the mean; None with a single seed
    interval: (
        tuple[float, float] | None
    )  # of the mean, by Student's t with a degree of freedom less than there are seeds

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval says which of both is ahead; a single seed never does."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def paired_difference(scores: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference | None:
    """The mean over seeds of ``scores`` minus ``reference``, with its standard error s / sqrt(n) and interval.

    Args:
        scores: seed -> score.
        reference: the same of what is compared with.

    Returns:
        None where no seed is in both.
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
