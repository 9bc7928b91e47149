"""Presentation of a verdict: words, table rows, chart points."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core import verdict_words
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
METRIC_WORDS = {
    "better": "better",
    "as_random": "changed, but perhaps no more than by random removal",
    "no_measurable_change": "no measurable change",
    "worse": "worse",
}
BECAME_WORDS = {"right": "now right", "wrong": "now wrong", "other": "still wrong"}
BADGES = {
    "right": "badge--ok",
    "wrong": "badge--bad",
    "other": "badge--warn",
}


def headline(protocol: Protocol) -> str:
    return verdict_words.headline(protocol.accuracy.judgement, protocol.loss.judgement)


def badge(protocol: Protocol) -> str:
    """Colour a headline: green only for a gain over which accuracy did not fall."""
    if protocol.judgement == "worse":
        return "badge--bad"
    is_gain = protocol.judgement == "improved" and not verdict_words.accuracy_fell(protocol)
    return "badge--ok" if is_gain else "badge--warn"


def sentence(verdict: Verdict) -> str:
    return verdict_words.sentence(verdict.fresh_seeds, drawn=bool(verdict.removed))


@dataclass(frozen=True)
class Figure:
    """A big number of the verdict. title: what it measures. change, values: as text."""

    title: str
    change: str
    values: str
    words: str


def figures(verdict: Verdict) -> list[Figure]:
    """Write accuracy and confidence, each with the digits that its interval justifies."""
    accuracy, loss = verdict.fresh_seeds.accuracy, verdict.fresh_seeds.loss
    decimals, digits = verdict_words.percent_digits(accuracy), verdict_words.loss_digits(loss)
    return [
        Figure(
            "Accuracy",
            f"{verdict_words.points(accuracy.difference, decimals)} points",
            f"{verdict_words.percent(accuracy.before, decimals)} → "
            f"{verdict_words.percent(accuracy.cleaned, decimals)} of the test images right",
            METRIC_WORDS[accuracy.judgement],
        ),
        Figure(
            "Confidence",
            f"{verdict_words.signed(loss.difference, digits)} loss",
            f"{loss.before:.{digits}f} → {loss.cleaned:.{digits}f}; a lower loss means more "
            "confidence in the right answers",
            METRIC_WORDS[loss.judgement],
        ),
    ]


@dataclass(frozen=True)
class Advice:
    """The advice on a measured verdict. button: accept | roll_back, or none to invite."""

    sentence: str
    button: str | None


def advise(verdict: Verdict) -> Advice:
    """Advise on a verdict; accepting is no invitation where accuracy fell."""
    judgement, fresh = verdict.judgement, verdict.fresh_seeds
    fell = verdict_words.accuracy_fell(fresh)
    if judgement == "worse":
        return Advice("The data was better before. Roll back; the images return.", "roll_back")
    if judgement == "improved" and not fell:
        return Advice(
            "The cleaned version is better. Accept it, then start a second round from it.", "accept"
        )
    if judgement == "improved":
        return Advice(
            "The model is more confident in its right answers, but fewer test images are right. "
            "That loss may be chance. Accept the version if you trust your corrections.",
            None,
        )
    if fell:
        return Advice(
            "Fewer test images are right, which may be chance. Accept the version only if you know "
            "that these labels were wrong; otherwise roll back.",
            None,
        )
    return Advice(
        "These test images show no measurable difference. You can still accept the version, for "
        "example because you know that these labels were wrong.",
        "accept",
    )


def describe_power(test_images: int, smallest: float, *, measured: bool = False) -> str:
    """Say which changes of accuracy the test images cannot show. smallest: as a fraction."""
    size = f"{100 * smallest:.0f}" if smallest >= 0.095 else f"{100 * smallest:.1f}"
    images = f"{test_images:,} test {'image' if test_images == 1 else 'images'}"
    if measured:
        return f"These {images} cannot show a change of accuracy of less than ±{size} points."
    return f"With {images}, a change of accuracy of less than about ±{size} points will not show."


def measured_power(verdict: Verdict) -> str | None:
    """Say what the verdict's test images could not show; None where the interval is infinite."""
    low, high = verdict.fresh_seeds.accuracy.ci95
    half = max((high - low) / 2, 1 / max(verdict.test_images, 1))
    return describe_power(verdict.test_images, half, measured=True) if math.isfinite(half) else None


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
