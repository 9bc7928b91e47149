"""Averages over runs with different seeds (docs/method.md, section 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.engine.errors import EngineError
from worker.engine.scores import trust
from worker.engine.scores.report_text import prediction_off, trust_words, undamped, warns
from worker.engine.scores.scores import Scores
from worker.engine.training import checks


def ensemble(scores: Sequence[Scores]) -> Scores:
    """Average one method's scores over several runs on the same images.

    The report has sums of costs, the worst of the runs' checks, `agreement`, and counts of runs:
    `runs`, `runs_measured`, `runs_held` (prediction confirmed) and `undamped_runs`.

    Raises:
        EngineError: no scores, a repeated run, or runs that do not compare.
    """
    if not scores:
        raise EngineError("Give the scores of at least one run to average.")
    for item in scores:
        checks.check_type(item, Scores, "scores of each run", "score returns them")
    reference = scores[0]
    if any(item.method != reference.method for item in scores):
        raise EngineError(
            "An average needs a single method; these are "
            f"{', '.join(sorted({item.method for item in scores}))}."
        )
    if any(item.images != reference.images for item in scores):
        raise EngineError(
            "These scores are of different image lists; score runs on the same images with the "
            "same labels."
        )
    for key, noun in (("span", "spans"), ("validation", "validation images")):
        # Reports of earlier versions lack these.
        if len({item.report[key] for item in scores if key in item.report}) > 1:
            raise EngineError(
                f"These scores are of different {noun}, which do not mean the same; score all runs "
                "alike."
            )
    if len({item.run for item in scores}) < len(scores):
        raise EngineError(
            "The same run is among these twice, which adds nothing; train the recipe again with "
            "another seed."
        )
    values = np.mean([item.values for item in scores], axis=0)
    return Scores(
        values,
        reference.method,
        all(item.exact for item in scores),
        _report(scores, values),
        reference.images,
        "",
    )


def _report(scores: Sequence[Scores], values: np.ndarray) -> dict[str, Any]:
    reports = [item.report for item in scores]
    report: dict[str, Any] = {"runs": len(scores), "agreement": agreement(scores)}
    if all("predicted_change" in item for item in reports):
        report |= trust.report_prediction(values)
    report |= _checks(reports)
    report["seconds"] = sum(item["seconds"] for item in reports)
    report["stored_bytes"] = sum(item["stored_bytes"] for item in reports)
    return report | {"trust": trust_words(report), "warns": warns(report)}


def _checks(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Take the worst of the runs' checks."""
    combined: dict[str, Any] = {}
    for key in ("adjoint_growth", "finite_difference_error"):
        if values := [item[key] for item in reports if key in item]:
            combined[key] = max(values)
    if any(item.get("drifted") for item in reports):
        combined["drifted"] = True
    if unsolved := [item for item in reports if not item.get("converged", True)]:
        worst = max(unsolved, key=lambda item: item["residual"])
        combined |= {key: worst[key] for key in ("converged", "residual", "iterations")}
    if outcomes := [off for off in map(prediction_off, reports) if off is not None]:
        combined |= {"runs_measured": len(outcomes), "runs_held": outcomes.count("")}
    if without := sum(map(undamped, reports)):
        combined["undamped_runs"] = without
    return combined


def agreement(scores: Sequence[Scores]) -> float | None:
    """Compute the mean rank correlation of two runs, or None if undefined."""
    if len(scores) < 2 or any(np.ptp(item.values) == 0 for item in scores):
        return None
    from scipy.stats import spearmanr  # slow import

    correlations = [
        spearmanr(item.values, other.values).statistic
        for index, item in enumerate(scores)
        for other in scores[:index]
    ]
    return float(np.mean(correlations))
