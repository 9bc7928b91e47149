"""What the verdict's page shows, worked out from the stored verdict: rows for tables, points for the chart, cards for images."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import Cleansing, Run, RunEpoch

ARM_WORDS = {
    "before": "Nothing removed",
    "cleaned": "Cleaned",
    "random": "Same number removed at random",
}
PROTOCOL_WORDS = {
    "fresh_seeds": (
        "Fresh starts",
        "Each training begins anew with another roll of the dice. This shows whether the data got better, so it decides the verdict.",
    ),
    "same_seed": (
        "Same training repeated",
        "Your training once more, with every roll of the dice the same, only with these corrections. This shows what they did to this one model.",
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


def found_sentence(verdict: Mapping[str, Any]) -> str | None:
    """The sentence "You found 83 of 86 planted errors.", or None where no error was planted."""
    if verdict.get("planted") is None:
        return None
    if verdict["planted"] == 0:
        return "No planted error was left to find."
    # Verdicts from before this was counted do not say.
    wrong = verdict.get("mislabelled")
    but = f"; {wrong} of them got another wrong label" if wrong else ""
    return f"You found {verdict['found']} of {verdict['planted']} planted errors{but}."


def hangs_on(runs: int, reviews: int) -> str | None:
    """What becomes of the trainings and reviews of a version that is rolled back, in words that can follow "If you roll back, "; None where
    there are none. Trainings and scorings go on; what is refused is a cleansing (backend.cleansing.service.outdated).
    """
    counted = [
        f"{count} {noun}{'s' if count > 1 else ''}"
        for count, noun in ((runs, "training"), (reviews, "review"))
        if count
    ]
    if not counted:
        return None
    stay, those = ("stays", "it") if runs + reviews == 1 else ("stay", "them")
    return f"{' and '.join(counted)} of this version {stay}. Only cleaning from {those} has to wait until the version is accepted again."


def chart(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What verdict-chart.js draws: the accuracy of each arm in both protocols, as percentages, and the 95 % interval of the gain in points."""
    panels = []
    for protocol, (title, _) in PROTOCOL_WORDS.items():
        accuracy = verdict[protocol]["accuracy"]
        dots = [
            {"arm": run["arm"], "seed": run["seed"], "accuracy": 100 * run["accuracy"]}
            for run in verdict[protocol].get("runs", [])
        ]
        panels.append(
            {
                "title": title,
                "arms": [
                    {"arm": arm, "label": words, "accuracy": 100 * accuracy[arm]}
                    for arm, words in ARM_WORDS.items()
                ],
                "dots": dots,
                "gains": [
                    _gain("Cleaned", accuracy["difference"], accuracy["ci95"]),
                    _gain(
                        "Removed at random", accuracy["random_difference"], accuracy["random_ci95"]
                    ),
                ],
            }
        )
    return {"panels": panels}


def _gain(label: str, difference: float, ci95: Sequence[float]) -> dict[str, Any]:
    return {
        "label": label,
        "difference": 100 * difference,
        "low": 100 * ci95[0],
        "high": 100 * ci95[1],
    }


def per_class(verdict: Mapping[str, Any], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The classes with test images, with their names, the largest changes first."""
    rows = [{**row, "name": class_names[row["label"]]} for row in verdict["per_class"]]
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def curves(session: Session, cleansing: Cleansing) -> list[dict[str, Any]]:
    """Validation accuracy after each epoch of the same training in its three arms; an arm without a curve is left out."""
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
