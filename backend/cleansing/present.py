"""Presentation of a verdict: words, table rows, chart points."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Cleansing, Run, RunEpoch
from backend.core.reports import ClassResult, Protocol, Verdict

ARM_WORDS = {
    "before": "Nothing removed",
    "cleaned": "Cleaned",
    "random": "Same number removed at random",
}
PROTOCOL_WORDS = {
    "fresh_seeds": (
        "Fresh starts",
        "Each training starts again with another roll of the dice. This shows whether the data got "
        "better, so it decides the verdict.",
    ),
    "same_seed": (
        "Same training repeated",
        "Your training once more, with every roll of the dice the same, but with these "
        "corrections. This shows what they did to this one model.",
    ),
}
JUDGEMENT_WORDS = {
    "improved": "Improved",
    "no_measurable_change": "No measurable change",
    "worse": "Worse",
}
METRIC_WORDS = {
    "better": "better",
    "as_random": "better, but not surely beyond random removal",
    "no_measurable_change": "no measurable change",
    "worse": "worse",
}
BECAME_WORDS = {"right": "now right", "wrong": "now wrong", "other": "still wrong"}
BADGES = {
    "right": "badge--ok",
    "wrong": "badge--bad",
    "other": "badge--warn",
    "improved": "badge--ok",
    "better": "badge--ok",
    "no_measurable_change": "badge--warn",
    "worse": "badge--bad",
}


def found_sentence(verdict: Verdict) -> str | None:
    """Write "You found 83 of 86 planted errors."; None if none was planted."""
    if verdict.planted is None:
        return None
    if verdict.planted == 0:
        return "No planted error was left to find."
    wrong = verdict.mislabelled
    but = f"; {wrong} of them got another wrong label" if wrong else ""
    return f"You found {verdict.found} of {verdict.planted} planted errors{but}."


def kept_sentence(runs: int, reviews: int) -> str | None:
    """Describe a version's trainings and reviews that survive its rollback, or None.

    The words follow "If you roll back, ". Trainings and scorings continue; only cleansing is
    refused (backend.cleansing.service.explain_outdated).
    """
    counted = [
        f"{count} {noun}{'s' if count > 1 else ''}"
        for count, noun in ((runs, "training"), (reviews, "review"))
        if count
    ]
    if not counted:
        return None
    stay, those = ("stays", "it") if runs + reviews == 1 else ("stay", "them")
    return (
        f"{' and '.join(counted)} of this version {stay}. Only cleaning from {those} has to wait "
        "until the version is accepted again."
    )


def chart(verdict: Verdict) -> dict[str, Any]:
    """Prepare verdict-chart.js: accuracies in percent, gains and intervals in points."""
    return {
        "panels": [
            _panel(verdict.fresh_seeds, "fresh_seeds"),
            _panel(verdict.same_seed, "same_seed"),
        ]
    }


def _panel(protocol: Protocol, name: str) -> dict[str, Any]:
    accuracy = protocol.accuracy
    return {
        "title": PROTOCOL_WORDS[name][0],
        "arms": [
            {"arm": arm, "label": words, "accuracy": 100 * getattr(accuracy, arm)}
            for arm, words in ARM_WORDS.items()
        ],
        "dots": [
            {"arm": run.arm, "seed": run.seed, "accuracy": 100 * run.accuracy}
            for run in protocol.runs
        ],
        "gains": [
            _gain("Cleaned", accuracy.difference, accuracy.ci95),
            _gain("Removed at random", accuracy.random_difference, accuracy.random_ci95),
        ],
    }


def _gain(label: str, difference: float, ci95: Sequence[float]) -> dict[str, Any]:
    return {
        "label": label,
        "difference": 100 * difference,
        "low": 100 * ci95[0],
        "high": 100 * ci95[1],
    }


def per_class(verdict: Verdict, class_names: Sequence[str]) -> list[tuple[str, ClassResult]]:
    """List classes with test images by name and result, largest changes first."""
    rows = [(class_names[row.label], row) for row in verdict.per_class]
    return sorted(rows, key=lambda named: -abs(named[1].difference))


def curves(session: Session, cleansing: Cleansing) -> list[dict[str, Any]]:
    """List the repeated training's validation accuracy by epoch, for each arm."""
    query = (
        select(Run.arm, RunEpoch.epoch, RunEpoch.validation_accuracy)
        .join(Run, Run.id == RunEpoch.run_id)
        .where(
            Run.cleansing_id == cleansing.id,
            Run.protocol == "same_seed",
            RunEpoch.validation_accuracy.is_not(None),
        )
        .order_by(Run.id, RunEpoch.epoch)
    )
    found: dict[str, list[list[float]]] = {}
    for arm, epoch, accuracy in session.execute(query):
        if arm is not None and accuracy is not None:
            found.setdefault(arm, []).append([epoch, 100 * accuracy])
    return [
        {"arm": arm, "label": ARM_WORDS[arm], "points": points} for arm, points in found.items()
    ]
