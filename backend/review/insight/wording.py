"""Sentences about a suggestion, for readers without machine learning."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row

from backend.core.catalogue import METHODS, SECOND, speaks_against, upper_bound
from backend.core.unjudged import SENTENCES


def share(rank: int, count: int) -> float:
    """Return the fraction of other images behind this rank: 1 for the first."""
    return (count - rank) / (count - 1) if count > 1 else 1.0


def percent(fraction: float) -> str:
    """Format with one decimal, rounded down: "more than 99.9 %" never becomes 100."""
    return f"{math.floor(round(fraction * 1000, 6)) / 10:.1f} %"


def _others(rank: int, count: int) -> str:
    return "any other image" if rank == 1 else f"{percent(share(rank, count))} of the images"


class Signal(NamedTuple):
    """A ranking's say on an image.

    unjudged: the reason why it has none, or None. error: the value's standard error, if known.
    """

    method: str
    value: float
    rank: int
    unjudged: str | None = None
    error: float | None = None

    @property
    def against(self) -> bool:
        """True where the ranking speaks against the image."""
        return self.unjudged is None and speaks_against(self.method, self.value, self.error)


def bar(signal: Signal, count: int) -> float:
    """Return a signal's bar length; 0 unless it speaks against the image."""
    return share(signal.rank, count) if signal.against else 0.0


def hurts_accuracy(value: float, rank: int, count: int, error: float | None = None) -> str:
    """Describe the influence; negative: the model is better without the image."""
    if value >= 0:
        return "The model does no better without it."
    if error is None:
        return f"Hurts more than {_others(rank, count)}."
    if upper_bound(value, error) < 0:
        return f"Surely hurts, and more than {_others(rank, count)}."
    return "May hurt, but too few validation images show it to be sure."


def would_help_as(class_name: str) -> str:
    """Describe a label that would help the model more than removing the image."""
    return f"As {class_name} it would help."


def surely_harmful(count: int, total: int) -> str:
    """Say how many images hurt beyond the luck of the validation images."""
    if not count:
        return (
            f"None of the {total:,} images surely hurts accuracy. That is a good sign: look at the "
            "labels that seem wrong."
        )
    images = "image surely hurts" if count == 1 else "images surely hurt"
    return f"{count:,} {images} accuracy, of {total:,}. They come first in that ranking."


def label_looks_wrong(value: float, rank: int, count: int) -> str:
    """Describe the margin; negative: the model believed another class."""
    if value >= 0:
        return "The model usually agreed with this label during training."
    return f"Looks more wrong than {_others(rank, count)}."


def prediction(name: str, confidence: float, given: str, label_confidence: float) -> str:
    sure = f"{_sureness(confidence)} ({round(confidence * 100)} %)"
    if name == given:
        return f"The model agrees: {name}, {sure}."
    return (
        f"The model sees {name}, {sure}. It gives {given} a chance of {_chance(label_confidence)}."
    )


def _sureness(confidence: float) -> str:
    for least, words in ((0.95, "almost certain"), (0.8, "fairly sure"), (0.5, "not very sure")):
        if confidence >= least:
            return words
    return "only guessing"


def _chance(fraction: float) -> str:
    return "less than 1 %" if fraction < 0.01 else f"{round(fraction * 100)} %"


def describe_signal(signal: Signal, count: int) -> str:
    """Describe a ranking's value in its method's terms, or why it cannot judge the image."""
    if signal.unjudged is not None:
        return SENTENCES[signal.unjudged]
    method, value, rank = signal.method, signal.value, signal.rank
    if METHODS[method].harm:
        return hurts_accuracy(value, rank, count, signal.error)
    if method == SECOND:
        return label_looks_wrong(value, rank, count)
    if method == "random":
        return "Its place was drawn by chance and says nothing about it."
    return f"More so than {_others(rank, count)}."


ADVICE = (
    "though the model agrees with its label: look for what is odd about it, and normally keep it"
)


def explain_place(by: str, accuracy: Signal, label: Signal, *, agrees: bool) -> str:
    """Explain a card's place in the queue.

    Args:
        by: ranking that placed it, accuracy | label | both.
        accuracy, label: the rankings' say.
        agrees: the model predicts the given label.
    """
    reasons = _reasons(by, accuracy, label)
    if reasons:
        place = "Suggested because " + " and ".join(METHODS[reason].because for reason in reasons)
        hurts_only = reasons == [accuracy.method] and METHODS[accuracy.method].harm
        return f"{place}, {ADVICE}" if agrees and hurts_only else place
    if by == "both":
        return "Next in both rankings, though neither says anything against it"
    return "Next in its ranking, though that says nothing against it"


def explain_place_short(by: str, accuracy: Signal, label: Signal) -> str:
    """Explain the place in two or three words."""
    reasons = _reasons(by, accuracy, label)
    if not reasons:
        placing = {"accuracy": [accuracy], "label": [label]}.get(by, [accuracy, label])
        return "Can’t be judged" if any(signal.unjudged for signal in placing) else "Next in order"
    if len(reasons) == 1:
        return METHODS[reasons[0]].title
    first = METHODS[accuracy.method]
    return "Accuracy and label" if first.harm else f"{first.title}; label"


def _reasons(by: str, accuracy: Signal, label: Signal) -> list[str]:
    signals = {"accuracy": accuracy, "label": label}
    return [
        signal.method
        for ranking, signal in signals.items()
        if by in (ranking, "both") and signal.against
    ]


def orders(method: str, others: Sequence[str] = ()) -> list[tuple[str, str]]:
    """List orders with names; margin alone has one.

    others: methods with their own ranking.
    """
    label = METHODS[SECOND].title
    own = [("queue", "Both, in turn"), ("accuracy", METHODS[method].title), ("label", label)]
    # Titles may coincide, so the method's name follows.
    more = [(other, f"{METHODS[other].title} ({METHODS[other].called})") for other in others]
    return ([("queue", label)] if method == SECOND else own) + more


def describe_act(
    action: str, class_name: str | None, *, undoes: bool, redoes: bool, together: bool
) -> str:
    """Describe an act as a verb for the image's history."""
    if undoes:
        verb = "took it back"
    else:
        acts = {"remove": "removed it", "keep": "kept it", "unsure": "was unsure"}
        verb = acts.get(action) or f"gave it the label {class_name}"
    return f"{verb}{' again' if redoes else ''}{', with others' if together else ''}"


def overtaken(name: str | None, action: str, class_name: str | None) -> str:
    acts = {
        "remove": "removed this image",
        "keep": "kept this image",
        "unsure": "was unsure about this image",
    }
    act = acts.get(action) or f"gave this image the label {class_name}"
    return f"{name or 'Somebody'} {act} meanwhile."


DECIDED = {"remove": "Remove", "keep": "Keep", "relabel": "New label", "unsure": "Unsure"}


def caption_similar(row: Row[Any], names: Sequence[str]) -> str:
    """Caption a similar image with its decision, else the prediction."""
    if row.decision is not None:
        return (
            DECIDED[row.decision]
            if row.decision_label is None
            else f"Now: {names[row.decision_label]}"
        )
    return names[row.label] if row.predicted == row.label else f"→ {names[row.predicted]}"
