"""Paired statistics of a verdict (docs/method.md, section 16)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.engine.errors import EngineError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Mean paired difference with 95 % interval (infinite for one pair)."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(
    before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray
) -> Difference:
    """Compare paired values: mean of after − before, with Student's t interval.

    A pair is a seed, or a test image if the same run is repeated.

    Raises:
        EngineError: lists empty, of unequal length or not of finite numbers.
    """
    differences = _numbers(after, "after") - _numbers(before, "before", len(after))
    if differences.size == 0:
        raise EngineError("There is nothing to compare.")
    mean = float(differences.mean())
    if differences.size == 1:
        return Difference(mean, -np.inf, np.inf, 1)
    from scipy import stats  # takes a second to import

    error = float(stats.sem(differences))
    if error == 0.0:
        return Difference(mean, mean, mean, differences.size)
    low, high = stats.t.interval(CONFIDENCE, differences.size - 1, loc=mean, scale=error)
    return Difference(mean, float(low), float(high), differences.size)


def _numbers(
    values: Sequence[float] | np.ndarray, name: str, count: int | None = None
) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise EngineError(
            f"The values measured {name} must be a list of numbers ({error})."
        ) from error
    if numbers.ndim != 1:
        raise EngineError(
            f"The values measured {name} must be a list of numbers, (pairs,), not of shape "
            f"{numbers.shape}."
        )
    if not np.isfinite(numbers).all():
        raise EngineError(
            f"The values measured {name} are not all finite numbers; leave out those pairs, and "
            "say so."
        )
    if count is not None and len(numbers) != count:
        raise EngineError(
            f"Pairs need as many numbers before as after; there are {len(numbers)} and {count}."
        )
    return numbers
