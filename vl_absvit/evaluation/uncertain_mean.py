"""A mean over questions or pictures, and how uncertain it is."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95


class UncertainMean(NamedTuple):
    """A mean and its uncertainty. None stands where there are too few values."""

    mean: float | None
    standard_error: float | None
    interval: tuple[float, float] | None  # 95 %, percentiles of the means of resampled values
    number: int  # of values


def uncertain_mean(values: np.ndarray, seed: int = 0) -> UncertainMean:
    """The mean of values, (n,), NaN being none; ``seed`` is that of the resampling."""
    from scipy.stats import bootstrap

    values = values[~np.isnan(values)]
    number = len(values)
    if number < 2:
        return UncertainMean(float(values[0]) if number else None, None, None, number)
    error = float(values.std(ddof=1) / np.sqrt(number))
    resampled = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 10_000_000 // number),  # tens of megabytes at a time
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = resampled.confidence_interval
    return UncertainMean(float(values.mean()), error, (float(low), float(high)), number)
