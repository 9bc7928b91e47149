"""Which damping δ to use in u − δ η H u: the one whose predictions agree best with what removals really do (docs/decisions/0023)."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from worker.engine.images import draws
from worker.engine.scores import trust
from worker.engine.scores.cost import GROUPS, deltas
from worker.engine.scores.method import Asked, Scored

# The part of the images that each group has.
PART = 0.05
# Predictions with a relative squared error of at most this are good enough: then the recursion stays exact.
ENOUGH = 0.25
# Another δ must bring the error down to this part of the exact recursion's, or less: twelve groups cannot tell smaller differences.
BETTER = 0.5
# The error of scores that are not numbers.
OVERFLOW = 1e30
# The stream of draws that the groups come from.
_GROUPS = 8


def choose_damping(asked: Asked, run: Callable[[Asked], Scored]) -> Scored:
    """Score with the δ among 1, 1/2, 1/4 … 1/|S| that predicts best what leaving random groups out changes.

    The groups are drawn by the images' own draws and really left out of the span's training, once. δ stays 1 where the exact recursion
    predicts well enough, or no other much better; from there downwards each δ is scored until the error has grown. The report has `damping`,
    and `damping_errors`: for each δ tried the mean squared error of the predicted change over the mean square of the measured one; where
    even the best is near 1 or more, no prediction is better than "nothing changes".
    """
    groups = list(_groups(asked))
    last = asked.replay.run.recipe.epochs
    epochs = range(asked.epochs[-1], last)
    measured = [
        trust.measured_change(asked.replay, asked.validation, group, epochs, asked.progress)
        for group in groups
    ]
    # A group whose training diverged says nothing.
    told = [
        (group, change)
        for group, change in zip(groups, measured, strict=True)
        if change is not None
    ]
    tried: dict[float, Scored] = {}
    errors: dict[float, float] = {}
    for delta in deltas(asked.replay.run.recipe.batch_size):
        tried[delta] = run(dataclasses.replace(asked, damping=delta))
        errors[delta] = error(tried[delta][0], told)
        if errors[1.0] <= ENOUGH or errors[delta] > min(errors.values()):
            break
    best = min(errors, key=lambda delta: errors[delta])
    values, report = tried[best if errors[best] <= BETTER * errors[1.0] else 1.0]
    return values, report | {
        "damping_errors": {f"{delta:g}": value for delta, value in errors.items()},
        "damping_groups": len(told),
    }


def error(values: np.ndarray, told: list[tuple[np.ndarray, float]]) -> float:
    """Mean squared error of the predicted changes of groups, relative to the mean square of the measured ones."""
    predicted = np.array([values[group].sum() for group, _ in told])
    measured = np.array([change for _, change in told])
    with np.errstate(over="ignore", invalid="ignore"):
        result = float(
            np.square(predicted - measured).mean() / np.square(measured).mean().clip(1e-30)
        )
    # Scores that overflowed are as wrong as can be; a number, so that reports stay JSON.
    return min(result, OVERFLOW) if np.isfinite(result) else OVERFLOW


def _groups(asked: Asked) -> Iterator[np.ndarray]:
    """Disjoint groups of images, (K,) positions each."""
    images, seed = asked.replay.run.images, asked.replay.run.recipe.seed
    order = np.argsort(draws(seed, 0, images.ids, _GROUPS), kind="stable")
    size = max(1, min(int(PART * len(images)), len(images) // GROUPS))
    for group in range(min(GROUPS, len(images))):
        yield np.sort(order[group * size : (group + 1) * size])
