"""Paired statistics of before and after (product.md, "Verdict")."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % confidence interval; the interval is infinite for a single pair."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> Difference:
    """after − before over pairs, with Student's t interval of the mean difference.

    For fresh seeds a pair is a seed; for a repeated run a pair is a test image, whose differences are many and so nearly normal in the mean.
    Raises ValueError where the two differ in length or are empty.
    """
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if differences.size == 0:
        raise ValueError("There is nothing to compare.")
    mean = float(differences.mean())
    if differences.size == 1:
        return Difference(mean, -np.inf, np.inf, 1)
    error = float(stats.sem(differences))
    if error == 0.0:
        return Difference(mean, mean, mean, differences.size)
    low, high = stats.t.interval(CONFIDENCE, differences.size - 1, loc=mean, scale=error)
    return Difference(mean, float(low), float(high), differences.size)
