"""Means with confidence intervals, by resampling cases."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
LEVEL = 0.95
_SEED = 2026


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over cases. Of one case there is no interval."""

    mean: float
    low: float | None
    high: float | None
    cases: int


def estimate(values: np.ndarray) -> Estimate:
    """Return the mean over organs of the means over cases, with its interval.

    Parameters
    ----------
    values
        (case, organ); NaN where a case does not have the organ. One organ is one column, and every
        column has a number.

    Returns
    -------
    Estimate
        The interval is the percentile bootstrap's: whole cases are drawn with replacement, since
        the organs of one patient are not independent. An organ that no drawn case has is left out
        of that draw. Seed and number of draws are fixed: the same scores give the same interval.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    known = values[~np.isnan(values).all(axis=1)]
    mean = float(_mean(known[None])[0])
    if len(known) < 2:
        return Estimate(mean, None, None, len(known))
    drawn = np.random.default_rng(_SEED).integers(0, len(known), (RESAMPLES, len(known)))
    means = np.concatenate([_mean(known[part]) for part in np.array_split(drawn, 50)])
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(mean, float(low), float(high), len(known))


def _mean(samples: np.ndarray) -> np.ndarray:
    """Return for (sample, case, organ) the mean over organs of means over cases."""
    has = ~np.isnan(samples)
    counts = has.sum(axis=1)
    sums = np.where(has, samples, 0).sum(axis=1)
    by_organ = sums / np.maximum(counts, 1)
    result: np.ndarray = (by_organ * (counts > 0)).sum(axis=1) / (counts > 0).sum(axis=1)
    return result
