"""The smallest change that test images can show, said before the verdict is measured."""

import pytest
from fastapi.testclient import TestClient

from backend.cleansing import present
from backend.cleansing.power import estimate_half_width
from backend.core.reports import Verdict
from tests.cleansing_scenario import Scenario


@pytest.mark.parametrize(
    ("test_images", "accuracy", "points"),
    [(18, 0.95, 11.0), (270, 0.95, 2.7), (10_000, 0.95, 0.44), (372, 0.74, 5.2), (2, 0.5, 100.0)],
)
def test_few_test_images_show_only_large_changes(
    test_images: int, accuracy: float, points: float
) -> None:
    assert 100 * estimate_half_width(test_images, accuracy) == pytest.approx(points, rel=0.1)


@pytest.mark.parametrize("test_images", [0, 1, 3, 40])
@pytest.mark.parametrize("accuracy", [None, 0.0, 0.9, 1.0])
def test_no_change_is_smaller_than_an_image_or_larger_than_all(
    test_images: int, accuracy: float | None
) -> None:
    half = estimate_half_width(test_images, accuracy)
    assert 1 / max(test_images, 1) <= half <= 1


def test_the_power_is_said_in_one_sentence() -> None:
    assert present.describe_power(18, 0.118) == (
        "With 18 test images, a change of accuracy of less than about ±12 points will not show."
    )
    assert present.describe_power(1, 1.0).startswith("With 1 test image, ")
    assert "±2.7 points" in present.describe_power(1_270, 0.027, measured=True)


def test_the_dry_run_says_what_the_test_images_can_show(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide([image.id for image in scenario.training_images()][:3])
    text = client.get(f"/reviews/{scenario.review_id}/clean").text
    assert "a change of accuracy of less than about ±" in text


def a_verdict(judgement: str, accuracy: float, words: str = "no_measurable_change") -> Verdict:
    """Write a verdict whose accuracy changed by so much, and whose loss is judged."""
    measure = {
        "before": 0.9,
        "cleaned": 0.9 + accuracy,
        "random": 0.9,
        "difference": accuracy,
        "ci95": [accuracy - 0.02, accuracy + 0.02],
        "random_difference": 0.0,
        "random_ci95": [0.0, 0.0],
        "judgement": words,
    }
    loss = {**measure, "judgement": "better" if judgement == "improved" else words}
    block = {"accuracy": measure, "loss": loss, "judgement": judgement}
    return Verdict.model_validate(
        {
            "removed": 3, "relabelled": 0, "test_images": 372, "same_seed": block,
            "fresh_seeds": block, "per_class": [], "changed": [], "became_right": 0,
            "became_wrong": 0, "sentence": "", "judgement": judgement, "seconds": {},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("judgement", "accuracy", "button", "badge"),
    [
        ("improved", 0.01, "accept", "badge--ok"),
        ("improved", -0.003, None, "badge--warn"),
        ("no_measurable_change", 0.0, "accept", "badge--warn"),
        ("no_measurable_change", -0.044, None, "badge--warn"),
        ("worse", 0.01, "roll_back", "badge--bad"),
        ("worse", -0.1, "roll_back", "badge--bad"),
    ],
)
def test_accepting_is_no_invitation_where_accuracy_fell(
    judgement: str, accuracy: float, button: str | None, badge: str
) -> None:
    verdict = a_verdict(judgement, accuracy)
    assert present.advise(verdict).button == button
    assert present.badge(verdict.fresh_seeds) == badge


def test_the_figures_are_accuracy_and_confidence_apart() -> None:
    accuracy, confidence = present.figures(a_verdict("improved", -0.003))
    assert (accuracy.change, accuracy.words) == ("−0.3 points", "no measurable change")
    assert accuracy.values == "90.0 % → 89.7 % of the test images right"
    assert (confidence.title, confidence.words) == ("Confidence", "better")
