"""Judge a cleansing by its trainings' test results (docs/decisions/0010-verdict-rule.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backend.core.reports import (
    ARMS,
    Arm,
    ChangedImage,
    ClassResult,
    Difference,
    Judgement,
    Measure,
    MetricJudgement,
    Number,
    Protocol,
    StartResult,
    Verdict,
    VerdictSeconds,
)
from backend.core.verdict_words import SMALLEST_SHOWN, percent, sentence
from worker.engine import paired_difference
from worker.pipeline.cleansing.arms import Plan

Floats = npt.NDArray[np.float64]
# Changed predictions kept in detail.
MOST_CHANGES = 2_000


@dataclass(frozen=True)
class Outcome:
    """Answers of a model to M test images: class (M,) int64, loss (M,) float64."""

    predicted: npt.NDArray[np.int64]
    losses: Floats

    def correct(self, labels: npt.NDArray[np.int64]) -> Floats:
        """Return 1 where right, 0 where wrong, (M,)."""
        return np.equal(self.predicted, labels).astype(np.float64)


Outcomes = Mapping[tuple[str, int, str], Outcome]  # (protocol, seed, arm) → outcome
Arms = Mapping[Arm, Floats]  # arm → values (S, M): a row per seed, a column per test image


def verdict(plan: Plan, outcomes: Outcomes, seconds: VerdictSeconds) -> Verdict:
    """Give the verdict by fresh starts: a single run may be lucky."""
    same = _protocol(plan, outcomes, "same_seed", [plan.seed])
    fresh = _protocol(plan, outcomes, "fresh_seeds", plan.fresh_seeds)
    fresh.seeds = plan.fresh_seeds
    fresh.runs = _runs(plan, outcomes)
    before = [outcomes["fresh_seeds", seed, "before"] for seed in plan.fresh_seeds]
    labels = plan.test.labels
    return Verdict(
        planted=None if plan.planted is None else int(plan.planted.sum()),
        removed=int(plan.removed.sum()),
        relabelled=int(plan.relabelled.sum()),
        found=plan.found,
        mislabelled=plan.mislabelled,
        test_images=len(plan.test),
        same_seed=same,
        fresh_seeds=fresh,
        per_class=_per_class(plan, outcomes),
        **_changed(plan, outcomes),
        sentence=sentence(fresh, drawn=bool(plan.removed.any())),
        doubt=doubt([float(one.correct(labels).mean()) for one in before], labels),
        judgement=fresh.judgement,
        seconds=seconds,
    )


def _protocol(plan: Plan, outcomes: Outcomes, protocol: str, seeds: Sequence[int]) -> Protocol:
    labels = plan.test.labels
    values = {arm: [outcomes[protocol, seed, arm] for seed in seeds] for arm in ARMS}
    right = {
        arm: np.stack([each.correct(labels) for each in found]) for arm, found in values.items()
    }
    losses = {arm: np.stack([each.losses for each in found]) for arm, found in values.items()}
    accuracy, loss = metric(right, better=1), metric(losses, better=-1)
    return Protocol(
        accuracy=accuracy, loss=loss, judgement=judge(accuracy.judgement, loss.judgement)
    )


def metric(arms: Arms, *, better: int) -> Measure:
    """Compare a measure of three arms, each (S, M). better: +1 if more is better, else −1."""
    gain = interval(arms["before"], arms["cleaned"])
    control = interval(arms["before"], arms["random"])
    beyond = interval(arms["random"], arms["cleaned"])
    return Measure(
        before=float(arms["before"].mean()),
        cleaned=float(arms["cleaned"].mean()),
        random=float(arms["random"].mean()),
        **gain.to_json(),
        random_difference=control.difference,
        random_ci95=control.ci95,
        beyond_random=beyond,
        judgement=judge_metric(gain.ci95, beyond.ci95, better),
    )


def interval(before: Floats, after: Floats) -> Difference:
    """Compute the mean of after − before, each (S, M), and its 95 % interval.

    Seeds and test images both vary: `ci95` spans the intervals over both.
    """
    images = paired_difference(before.mean(axis=0), after.mean(axis=0))
    over_images: list[Number] = [images.low, images.high]
    if len(before) < 2:
        return Difference(difference=images.mean, ci95=over_images, ci95_images=over_images)
    seeds = paired_difference(before.mean(axis=1), after.mean(axis=1))
    return Difference(
        difference=images.mean,
        ci95=[min(seeds.low, images.low), max(seeds.high, images.high)],
        ci95_images=over_images,
        ci95_seeds=[seeds.low, seeds.high],
    )


def judge_metric(
    gain: Sequence[float], beyond_random: Sequence[float], better: int
) -> MetricJudgement:
    """Judge a measure by its two intervals.

    "better" and "worse": than before and than random removal. "as_random": than before alone.
    Else "no_measurable_change", also where the digits would not show the change.
    """
    sides: list[tuple[int, MetricJudgement]] = [(better, "better"), (-better, "worse")]
    for sign, judgement in sides:
        if _lies_above(gain, sign, SMALLEST_SHOWN):
            return judgement if _lies_above(beyond_random, sign) else "as_random"
    return "no_measurable_change"


def _lies_above(ci95: Sequence[float], sign: int, limit: float = 0.0) -> bool:
    return min(sign * ci95[0], sign * ci95[1]) > limit


def judge(accuracy: MetricJudgement, loss: MetricJudgement) -> Judgement:
    """Judge by both measures: a clear result that the other does not contradict."""
    clear = {accuracy, loss} & {"better", "worse"}
    if len(clear) != 1:
        return "no_measurable_change"
    return "improved" if clear == {"better"} else "worse"


def _runs(plan: Plan, outcomes: Outcomes) -> list[StartResult]:
    rows = []
    for seed in plan.fresh_seeds:
        for arm in ARMS:
            outcome = outcomes["fresh_seeds", seed, arm]
            accuracy = float(outcome.correct(plan.test.labels).mean())
            loss = float(outcome.losses.mean())
            rows.append(StartResult(seed=seed, arm=arm, accuracy=accuracy, loss=loss))
    return rows


def _per_class(plan: Plan, outcomes: Outcomes) -> list[ClassResult]:
    labels = plan.test.labels
    means = {
        arm: np.mean(
            [outcomes["fresh_seeds", seed, arm].correct(labels) for seed in plan.fresh_seeds],
            axis=0,
        )
        for arm in ARMS
    }
    rows = []
    for label in range(plan.class_count):
        members = labels == label
        if members.any():
            shares = {arm: float(values[members].mean()) for arm, values in means.items()}
            difference = shares["cleaned"] - shares["before"]
            images = int(members.sum())
            rows.append(ClassResult(label=label, images=images, **shares, difference=difference))
    return rows


def _changed(plan: Plan, outcomes: Outcomes) -> dict[str, Any]:
    """Describe test images that the repeated run predicts differently."""
    before, cleaned = (
        outcomes["same_seed", plan.seed, arm].predicted for arm in ("before", "cleaned")
    )
    positions = np.flatnonzero(before != cleaned)
    labels = plan.test.labels
    became_right = cleaned[positions] == labels[positions]
    became_wrong = before[positions] == labels[positions]
    # First those that became right, then those that became wrong.
    order = positions[np.argsort(2 - 2 * became_right - became_wrong, kind="stable")][:MOST_CHANGES]
    # A single training may be lucky, so fresh starts' answers are shown too.
    fresh_before, fresh_cleaned = (
        _fresh_right(plan, outcomes, arm) for arm in ("before", "cleaned")
    )
    changes = [
        ChangedImage(
            image_id=int(plan.test.ids[n]),
            label=int(labels[n]),
            before=int(before[n]),
            cleaned=int(cleaned[n]),
            fresh_before=int(fresh_before[n]),
            fresh_cleaned=int(fresh_cleaned[n]),
        )
        for n in order
    ]
    return {
        "changed": plan.test.ids[positions].tolist(),
        "became_right": int(became_right.sum()),
        "became_wrong": int(became_wrong.sum()),
        "changes": changes,
    }


def _fresh_right(plan: Plan, outcomes: Outcomes, arm: str) -> Floats:
    """Count the fresh starts that recognise each test image, (M,)."""
    right = (
        outcomes["fresh_seeds", seed, arm].correct(plan.test.labels) for seed in plan.fresh_seeds
    )
    return sum(right, np.zeros(len(plan.test)))


def doubt(accuracies: Sequence[float], labels: npt.NDArray[np.int64]) -> str | None:
    """Warn where fresh starts with nothing removed are no better than guessing, else None.

    Args:
        accuracies: Of each fresh start on the test images, fractions.
        labels: Labels of the test images, (M,).
    """
    share = float(np.bincount(labels).max()) / len(labels)
    failed = sum(accuracy <= share for accuracy in accuracies)
    if not failed:
        return None
    starts = (
        f"{failed} of the {len(accuracies)} fresh starts"
        if failed < len(accuracies)
        else f"all {failed} fresh starts"
    )
    return (
        f"In {starts} the model has not learned: it names no more test images correctly than "
        f"always naming the largest class would ({percent(share)}). That is the luck of trainings "
        "and says nothing of these images. Train again for longer, or with a lower learning rate, "
        "and measure then."
    )
