"""A verdict's words: accuracy and confidence apart, and no more than the digits show."""

from typing import Any

import pytest

from backend.core import verdict_words
from backend.core.reports import MetricJudgement, Protocol


def a_measure(
    before: float, difference: float, half: float, judgement: str = "no_measurable_change"
) -> dict[str, Any]:
    return {
        "before": before,
        "cleaned": before + difference,
        "random": before,
        "difference": difference,
        "ci95": [difference - half, difference + half],
        "random_difference": 0.0,
        "random_ci95": [0.0, 0.0],
        "judgement": judgement,
    }


def a_protocol(accuracy: dict[str, Any], loss: dict[str, Any]) -> Protocol:
    return Protocol.model_validate(
        {"accuracy": accuracy, "loss": loss, "judgement": "no_measurable_change"}
    )


@pytest.mark.parametrize(
    ("accuracy", "confidence", "words"),
    [
        ("better", "better", "Accuracy and confidence better"),
        ("worse", "worse", "Accuracy and confidence worse"),
        ("better", "no_measurable_change", "Accuracy better, confidence unchanged"),
        ("no_measurable_change", "better", "Confidence better, accuracy unchanged"),
        ("no_measurable_change", "worse", "Confidence worse, accuracy unchanged"),
        ("worse", "better", "Accuracy worse, confidence better"),
        ("as_random", "better", "Confidence better, accuracy as after random removal"),
        ("worse", "as_random", "Accuracy worse, confidence as after random removal"),
        ("as_random", "as_random", "No change beyond random removal"),
        ("no_measurable_change", "no_measurable_change", "No measurable change"),
    ],
)
def test_a_headline_says_accuracy_and_confidence_apart(
    accuracy: MetricJudgement, confidence: MetricJudgement, words: str
) -> None:
    assert verdict_words.headline(accuracy, confidence) == words


def test_a_lower_accuracy_is_noticed_only_where_its_digits_show_it() -> None:
    loss = a_measure(0.2, -0.1, 0.01, "better")
    assert verdict_words.accuracy_fell(a_protocol(a_measure(0.958, -0.003, 0.01), loss))
    assert not verdict_words.accuracy_fell(a_protocol(a_measure(0.958, 0.0, 0.01), loss))
    assert not verdict_words.accuracy_fell(a_protocol(a_measure(0.958, 0.003, 0.01), loss))
    assert not verdict_words.accuracy_fell(a_protocol(a_measure(0.958, -0.00001, 0.01), loss))


@pytest.mark.parametrize(
    ("difference", "half", "digits"),
    [
        (0.09, 0.033, 3),
        (0.0, 0.0, 3),
        (0.0, float("inf"), 3),
        (0.0, 12.0, 3),
        (-0.0004, 0.0001, 5),
        (-0.0502, 0.05, 4),
        (0.0, 1e-12, 6),
    ],
)
def test_a_loss_gets_the_digits_that_its_interval_justifies(
    difference: float, half: float, digits: int
) -> None:
    fresh = a_protocol(a_measure(0.5, 0.0, 0.1), a_measure(0.5, difference, half))
    assert verdict_words.loss_digits(fresh.loss) == digits


@pytest.mark.parametrize("difference", [0.4, 0.004, 1.1e-4])
def test_a_clear_change_is_always_one_that_can_be_read(difference: float) -> None:
    """Its numbers differ, and its interval does not touch a printed 0."""
    fresh = a_protocol(
        a_measure(0.5, 0.0, 0.1), a_measure(0.5, difference, 0.9 * difference, "worse")
    )
    text = verdict_words.sentence(fresh)
    before, cleaned = text.split("Test loss ")[1].split(" (")[0].split(" → ")
    assert before != cleaned
    low = text.split("Test loss ")[1].split("95 % CI ")[1].split(" to ")[0]
    assert float(low) > 0
