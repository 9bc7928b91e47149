"""Sentences about a scoring's report, for users."""

from typing import Any

# Adjoint growth above which the estimate fails (docs/decisions/0023).
GROWTH = 4.0
# Factor within which a prediction holds.
FACTOR = 2.0
# Finite-difference error above which a derivative is in doubt.
DIFFERENCE = 0.05
# Relative squared error above which a damping predicts nothing.
NOTHING = 0.95
# Rank correlation of runs below which a ranking is mostly luck.
AGREEMENT = 0.3


def trust_words(report: dict[str, Any]) -> list[str]:
    """Say how far to trust a scoring, most important sentence first."""
    sentences = [
        *_drift(report),
        *_measured(report),
        *_damping(report),
        *_growth(report),
        *_derivative(report),
        *_solution(report),
        *_runs(report),
    ]
    return [sentence for sentence in sentences if sentence]


def warns(report: dict[str, Any]) -> bool:
    """Return True if a sentence says not to trust the scoring."""
    doubts = (
        _drift(report)
        or _growth(report)
        or _derivative(report)
        or _solution(report)
        or undamped(report)
        or report.get("undamped_runs")
    )
    return bool(doubts) or prediction_off(report) not in (None, "") or _most_fail(report)


def _drift(report: dict[str, Any]) -> list[str]:
    if not report.get("drifted"):
        return []
    return [
        "The training's steps came out differently here than when it was trained (another "
        "machine, other pixels, another network?), so these scores are approximate, and may be of "
        "another training altogether."
    ]


def prediction_off(report: dict[str, Any]) -> str | None:
    """Compare the measured change with the prediction.

    Returns:
        "" if it holds, else "sign", "size" or "diverged"; None if not measured.
    """
    predicted, measured = report.get("predicted_change"), report.get("measured_change")
    if predicted is not None and report.get("diverged_without"):
        return "diverged"
    if predicted is None or measured is None:
        return None
    if predicted * measured <= 0:
        return "sign"
    ratio = measured / predicted
    return "" if 1 / FACTOR <= ratio <= FACTOR else "size"


def _most_fail(report: dict[str, Any]) -> bool:
    return 2 * report.get("runs_held", 0) < report.get("runs_measured", 0)


def _measured(report: dict[str, Any]) -> list[str]:
    if "predicted_change" not in report:
        return []
    count, predicted, off = (
        report.get("top_group", 1),
        report["predicted_change"],
        prediction_off(report),
    )
    images = "the first image" if count == 1 else f"the first {count:,} images"
    prediction = f"Without {images} the validation loss was predicted to change by {predicted:+.4f}"
    if off is None and report.get("runs_measured"):
        share = f"{report['runs_held']} of {report['runs_measured']}"
        advice = (
            " Look at these images, but do not remove them unseen." if _most_fail(report) else ""
        )
        return [
            f"{prediction}. Each run's own prediction was measured, and held in {share} "
            f"runs.{advice}"
        ]
    if off is None:
        return [f"{prediction}; whether it does was not measured."]
    if off == "diverged":
        return [
            f"{prediction}; the training without them diverged, so nothing can be said. Train with "
            "a lower learning rate."
        ]
    measured = f"measured {report['measured_change']:+.4f}"
    if off == "sign":
        return [
            f"{prediction}, {measured}: the prediction is wrong in its direction. Look at these "
            "images, but do not remove them unseen."
        ]
    if off == "size":
        return [
            f"{prediction}, {measured}: the direction is right, the size is not. Trust the order "
            "more than the figures."
        ]
    return [f"{prediction}, {measured}: the prediction holds."]


def _growth(report: dict[str, Any]) -> list[str]:
    growth = report.get("adjoint_growth")
    if growth is None or growth <= GROWTH:
        return []
    return [
        f"On its way back through the training the estimate grew {growth:,.0f}-fold: at this "
        "learning rate small changes have large, unpredictable effects, and the order is little "
        "better than chance. Score the last epoch only, use damping, or train with a lower "
        "learning rate."
    ]


def _damping(report: dict[str, Any]) -> list[str]:
    if report.get("undamped_runs"):
        return [
            f"In {report['undamped_runs']} of the {report['runs']} runs no damping predicted what "
            "leaving images out changed: at this learning rate these scores say little about "
            "single images."
        ]
    errors, damping = report.get("damping_errors"), report.get("damping")
    if not errors or damping is None:
        return []
    groups = f"{report['damping_groups']} groups of images were really left out"
    if undamped(report):
        return [
            f"{groups}, and no damping predicted what that changed: at this learning rate these "
            "scores say little about single images."
        ]
    chosen = "the exact recursion" if damping == 1 else f"damping {damping:g}"
    return [
        f"{groups}; {chosen} predicted the changes best, with {1 - errors[f'{damping:g}']:.0%} of "
        "their square explained."
    ]


def undamped(report: dict[str, Any]) -> bool:
    errors = report.get("damping_errors", {})
    return bool(errors) and errors[f"{report['damping']:g}"] >= NOTHING


def _derivative(report: dict[str, Any]) -> list[str]:
    error = report.get("finite_difference_error")
    if error is None or error <= DIFFERENCE:
        return []
    return [
        f"A numerical check of the derivatives is off by {error:.0%}; the scores may be wrong. "
        "Please report this network and recipe."
    ]


def _solution(report: dict[str, Any]) -> list[str]:
    if report.get("converged", True):
        return []
    return [
        f"The equation behind these scores was solved to {report['residual']:.1%} only, after "
        f"{report['iterations']} iterations; allow more iterations or a larger ridge."
    ]


def _runs(report: dict[str, Any]) -> list[str]:
    agreement = report.get("agreement")
    if agreement is None:
        return []
    low = agreement < AGREEMENT
    return [
        f"The {report['runs']} runs agree on the order with a rank correlation of {agreement:.2f}"
        + (
            ": one run alone says little here, so trust the average, and add runs if you can."
            if low
            else "."
        )
    ]
