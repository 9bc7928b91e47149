"""Averages over runs with different seeds: less of one run's luck (influence.md, section 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.engine.errors import EngineError
from worker.engine.scores import trust
from worker.engine.scores.report_text import prediction_off, trust_words, undamped, warns
from worker.engine.scores.scores import Scores
from worker.engine.training import checks


def ensemble(scores: Sequence[Scores]) -> Scores:
    """The average of one method's scores over several runs on the same images, (N,).

    The report has `runs`, `agreement` (the mean rank correlation of two runs' scores: how much of one run's ranking is luck), the change
    predicted for the average's own top group, the sums of seconds and bytes, and of the runs' own checks the worst: `adjoint_growth`,
    `finite_difference_error`, `drifted`, `converged`; in how many runs the prediction was measured (`runs_measured`) and held (`runs_held`), and
    in how many no damping helped (`undamped_runs`).

    Raises EngineError for no scores, or what is none, several methods, image lists, spans or lists of validation images, or the same run twice.
    """
    if not scores:
        raise EngineError("Give the scores of at least one run to average.")
    for one in scores:
        checks.given(one, Scores, "scores of each run", "score returns them")
    first = scores[0]
    if any(one.method != first.method for one in scores):
        raise EngineError(
            f"An average needs one method; these are {', '.join(sorted({one.method for one in scores}))}."
        )
    if any(one.images != first.images for one in scores):
        raise EngineError(
            "These scores are of different image lists; score runs on the same images with the same labels."
        )
    for key, what in (("span", "spans"), ("validation", "validation images")):
        # Reports of an earlier version do not say.
        if len({one.report[key] for one in scores if key in one.report}) > 1:
            raise EngineError(
                f"These scores are of different {what}, which do not mean the same; score all runs alike."
            )
    if len({one.run for one in scores}) < len(scores):
        raise EngineError(
            "The same run is among these twice, which adds nothing; train the recipe again with another seed."
        )
    values = np.mean([one.values for one in scores], axis=0)
    return Scores(
        values,
        first.method,
        all(one.exact for one in scores),
        _report(scores, values),
        first.images,
        "",
    )


def _report(scores: Sequence[Scores], values: np.ndarray) -> dict[str, Any]:
    reports = [one.report for one in scores]
    report: dict[str, Any] = {"runs": len(scores), "agreement": agreement(scores)}
    if all("predicted_change" in one for one in reports):
        report |= trust.predicted(values)
    report |= _checks(reports)
    report["seconds"] = sum(one["seconds"] for one in reports)
    report["stored_bytes"] = sum(one["stored_bytes"] for one in reports)
    return report | {"trust": trust_words(report), "warns": warns(report)}


def _checks(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the runs' own checks found: an average is no better founded than its runs."""
    found: dict[str, Any] = {}
    for key in ("adjoint_growth", "finite_difference_error"):
        if values := [one[key] for one in reports if key in one]:
            found[key] = max(values)
    if any(one.get("drifted") for one in reports):
        found["drifted"] = True
    if unsolved := [one for one in reports if not one.get("converged", True)]:
        worst = max(unsolved, key=lambda one: one["residual"])
        found |= {key: worst[key] for key in ("converged", "residual", "iterations")}
    if outcomes := [off for off in map(prediction_off, reports) if off is not None]:
        found |= {"runs_measured": len(outcomes), "runs_held": outcomes.count("")}
    if without := sum(map(undamped, reports)):
        found["undamped_runs"] = without
    return found


def agreement(scores: Sequence[Scores]) -> float | None:
    """The mean rank correlation of two runs' scores; None for a single run, or where all scores of a run are equal."""
    if len(scores) < 2 or any(np.ptp(one.values) == 0 for one in scores):
        return None
    from scipy.stats import spearmanr  # a second to import, and most runs are not averaged

    correlations = [
        spearmanr(one.values, other.values).statistic
        for place, one in enumerate(scores)
        for other in scores[:place]
    ]
    return float(np.mean(correlations))
