"""Choice of damping by measuring removals (docs/decisions/0023)."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from worker.engine.images import draw_hashes
from worker.engine.scores import trust
from worker.engine.scores.cost import GROUPS, damping_candidates
from worker.engine.scores.method import ScoresAndReport, ScoringRequest

GROUP_SHARE = 0.05
# Relative squared error that is good enough at δ = 1.
ENOUGH = 0.25
# Share of that error required of another δ: twelve groups cannot resolve less.
BETTER = 0.5
OVERFLOW = 1e30
_GROUPS = 8


def choose_damping(
    request: ScoringRequest, run: Callable[[ScoringRequest], ScoresAndReport]
) -> ScoresAndReport:
    """Score with the δ that best predicts the effect of leaving out random groups.

    Smaller δ are tried until the error grows; δ stays 1 unless another is much better.

    Returns:
        Scores, (N,), and a report with each δ's relative squared error.
    """
    groups = list(_groups(request))
    last = request.replay.run.recipe.epochs
    epochs = range(request.epochs[-1], last)
    measured = [
        trust.measure_change(request.replay, request.validation, group, epochs, request.progress)
        for group in groups
    ]
    # None where training diverged.
    measured_groups = [
        (group, change)
        for group, change in zip(groups, measured, strict=True)
        if change is not None
    ]
    tried: dict[float, ScoresAndReport] = {}
    errors: dict[float, float] = {}
    for delta in damping_candidates(request.replay.run.recipe.batch_size):
        tried[delta] = run(dataclasses.replace(request, damping=delta))
        errors[delta] = prediction_error(tried[delta].values, measured_groups)
        if errors[1.0] <= ENOUGH or errors[delta] > min(errors.values()):
            break
    best = min(errors, key=lambda delta: errors[delta])
    chosen = tried[best if errors[best] <= BETTER * errors[1.0] else 1.0]
    report = chosen.report | {
        "damping_errors": {f"{delta:g}": value for delta, value in errors.items()},
        "damping_groups": len(measured_groups),
    }
    return chosen._replace(report=report)


def prediction_error(values: np.ndarray, measured_groups: list[tuple[np.ndarray, float]]) -> float:
    """Compute the squared error of predictions relative to the measured changes."""
    predicted = np.array([values[group].sum() for group, _ in measured_groups])
    measured = np.array([change for _, change in measured_groups])
    with np.errstate(over="ignore", invalid="ignore"):
        result = float(
            np.square(predicted - measured).mean() / np.square(measured).mean().clip(1e-30)
        )
    # JSON has no infinity.
    return min(result, OVERFLOW) if np.isfinite(result) else OVERFLOW


def _groups(request: ScoringRequest) -> Iterator[np.ndarray]:
    """Yield disjoint groups of positions, (K,) each."""
    images, seed = request.replay.run.images, request.replay.run.recipe.seed
    order = np.argsort(draw_hashes(seed, 0, images.ids, _GROUPS), kind="stable")
    size = max(1, min(int(GROUP_SHARE * len(images)), len(images) // GROUPS))
    for group in range(min(GROUPS, len(images))):
        yield np.sort(order[group * size : (group + 1) * size])
