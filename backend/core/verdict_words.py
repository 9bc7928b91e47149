"""A verdict in words: headline, sentence and the digits that its intervals justify."""

import math

from backend.core.reports import Measure, MetricJudgement, Protocol

# Decimals of a percentage and of a loss, at least and at most.
PERCENT_DIGITS = (1, 3)
LOSS_DIGITS = (3, 6)
# Smaller changes of a fraction or a loss would not show.
SMALLEST_SHOWN = 1e-5

_CHANGES: dict[MetricJudgement, str] = {
    "better": "better",
    "worse": "worse",
    "as_random": "as after random removal",
    "no_measurable_change": "unchanged",
}


def headline(accuracy: MetricJudgement, confidence: MetricJudgement) -> str:
    """Name the changes of accuracy and of confidence (the loss), apart."""
    if accuracy == confidence:
        return {
            "no_measurable_change": "No measurable change",
            "as_random": "No change beyond random removal",
        }.get(accuracy) or f"Accuracy and confidence {_CHANGES[accuracy]}"
    parts = [("accuracy", _CHANGES[accuracy]), ("confidence", _CHANGES[confidence])]
    if accuracy not in ("better", "worse"):
        parts.reverse()
    first, second = (f"{name} {change}" for name, change in parts)
    return f"{first[0].upper()}{first[1:]}, {second}"


def sentence(fresh: Protocol, *, drawn: bool = True) -> str:
    """Write the verdict with its numbers. drawn: a random removal was measured too."""
    accuracy, loss = fresh.accuracy, fresh.loss
    decimals, digits = percent_digits(accuracy), loss_digits(loss)
    by_accuracy = f", random removal {points(accuracy.random_difference, decimals)}"
    by_loss = f", random removal {signed(loss.random_difference, digits)}"
    before, cleaned = (percent(each, decimals) for each in (accuracy.before, accuracy.cleaned))
    low, high = (points(end, decimals) for end in accuracy.ci95)
    text = (
        f"{headline(accuracy.judgement, loss.judgement)}: test accuracy {before} → {cleaned}, "
        f"{points(accuracy.difference, decimals)} points (95 % CI {low} to {high})"
        f"{by_accuracy if drawn else ''}."
    )
    low, high = (signed(end, digits) for end in loss.ci95)
    return (
        f"{text} Test loss {loss.before:.{digits}f} → {loss.cleaned:.{digits}f} "
        f"(95 % CI {low} to {high}; lower is better){by_loss if drawn else ''}."
    )


def accuracy_fell(protocol: Protocol) -> bool:
    """True where the cleaned version's accuracy, as it is shown, is lower."""
    accuracy = protocol.accuracy
    decimals = percent_digits(accuracy)
    return percent(accuracy.cleaned, decimals) != percent(accuracy.before, decimals) and (
        accuracy.cleaned < accuracy.before
    )


def percent_digits(measure: Measure) -> int:
    return _digits(measure, 100, *PERCENT_DIGITS)


def loss_digits(measure: Measure) -> int:
    return _digits(measure, 1, *LOSS_DIGITS)


def _digits(measure: Measure, scale: float, least: int, most: int) -> int:
    """Return decimals that show the interval's width, and its nearer end where it excludes 0."""
    low, high = (scale * end for end in measure.ci95)
    needed = [2 - _place((high - low) / 2)]
    if low * high > 0:
        needed.append(1 - _place(min(abs(low), abs(high))))
    return min(max(least, *needed), most)


def _place(value: float) -> int:
    """Return the first digit's place before the point: 1 for 1 to 9, 0 for 0.1 to 0.9."""
    return math.floor(math.log10(value)) + 1 if 0 < value < math.inf else 1


def percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f} %"


def points(fraction: float, digits: int = 1) -> str:
    """0.014 → "+1.4"; with a real minus sign and no signed zero."""
    return signed(100 * fraction, digits)


def signed(value: float, digits: int = 3) -> str:
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else "−") + text
