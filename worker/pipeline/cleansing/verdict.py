"""From the test results of all trainings to a verdict: improved, no measurable change, or worse (docs/decisions/0010-verdict-rule.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.engine import Difference, paired_difference
from worker.pipeline.cleansing.arms import Plan

Floats = npt.NDArray[np.float64]
# Images whose changed prediction is kept in detail: all but of the largest test splits.
MOST_CHANGES = 2_000


@dataclass(frozen=True)
class Outcome:
    """What one trained model said about the M test images: predicted class (M,) int64 and loss (M,) float64."""

    predicted: npt.NDArray[np.int64]
    losses: Floats

    def correct(self, labels: npt.NDArray[np.int64]) -> Floats:
        """1 where right, 0 where wrong, (M,)."""
        return np.equal(self.predicted, labels).astype(np.float64)


Outcomes = Mapping[tuple[str, int, str], Outcome]  # (protocol, seed, arm) → outcome
Arms = Mapping[str, Floats]  # arm → values (S, M): a row a seed, a column a test image


def verdict(plan: Plan, outcomes: Outcomes, seconds: dict[str, float]) -> dict[str, Any]:
    """The whole verdict as JSON; what its fields mean: docs/decisions/0010-verdict-rule.md."""
    same = _protocol(plan, outcomes, "same_seed", [plan.seed])
    fresh = _protocol(plan, outcomes, "fresh_seeds", plan.fresh_seeds)
    fresh["seeds"] = plan.fresh_seeds
    fresh["runs"] = _runs(plan, outcomes)
    return {
        "planted": None if plan.planted is None else int(plan.planted.sum()),
        "removed": int(plan.removed.sum()),
        "relabelled": int(plan.relabelled.sum()),
        "found": plan.found,
        "mislabelled": plan.mislabelled,
        "test_images": len(plan.test),
        "same_seed": same,
        "fresh_seeds": fresh,
        "per_class": _per_class(plan, outcomes),
        **_changed(plan, outcomes),
        "sentence": sentence(fresh, drawn=bool(plan.removed.any())),
        "doubt": doubt(
            [
                float(outcomes["fresh_seeds", seed, "before"].correct(plan.test.labels).mean())
                for seed in plan.fresh_seeds
            ],
            plan.test.labels,
        ),
        # Whether the data got better, not whether one run got luckier: fresh starts decide.
        "judgement": fresh["judgement"],
        "seconds": seconds,
    }


def _protocol(
    plan: Plan, outcomes: Outcomes, protocol: str, seeds: Sequence[int]
) -> dict[str, Any]:
    labels = plan.test.labels
    values = {
        arm: [outcomes[protocol, seed, arm] for seed in seeds]
        for arm in ("before", "cleaned", "random")
    }
    accuracy = metric(
        {arm: np.stack([one.correct(labels) for one in ones]) for arm, ones in values.items()},
        better=1,
    )
    loss = metric(
        {arm: np.stack([one.losses for one in ones]) for arm, ones in values.items()}, better=-1
    )
    return {"accuracy": accuracy, "loss": loss, "judgement": judge(accuracy, loss)}


def metric(arms: Arms, *, better: int) -> dict[str, Any]:
    """One measure over the three arms, each (S, M). better: +1 where more is better, −1 where less is."""
    gain = interval(arms["before"], arms["cleaned"])
    control = interval(arms["before"], arms["random"])
    beyond = interval(arms["random"], arms["cleaned"])
    return {
        **{arm: float(values.mean()) for arm, values in arms.items()},
        **gain,
        "random_difference": control["difference"],
        "random_ci95": control["ci95"],
        "beyond_random": beyond,
        "judgement": judge_metric(gain["ci95"], beyond["ci95"], better),
    }


def interval(before: Floats, after: Floats) -> dict[str, Any]:
    """The mean of after − before, each (S, M), and its 95 % interval.

    Two things are left to chance: the seeds (pairs: the means of each seed) and the test images (pairs: the means of each image). `ci95`
    spans both intervals, so that it leaves 0 out only where both do: three seeds that agree on one single image prove nothing.
    """
    images = paired_difference(before.mean(axis=0), after.mean(axis=0))
    result: dict[str, Any] = {
        "difference": images.mean,
        "ci95": [images.low, images.high],
        "ci95_images": [images.low, images.high],
    }
    if len(before) > 1:
        seeds: Difference = paired_difference(before.mean(axis=1), after.mean(axis=1))
        result["ci95_seeds"] = [seeds.low, seeds.high]
        result["ci95"] = [min(seeds.low, images.low), max(seeds.high, images.high)]
    return result


def judge_metric(gain: Sequence[float], beyond_random: Sequence[float], better: int) -> str:
    """One of four: "better" where cleaned beats before and random removal, "as_random" where it beats only before, "worse" where it falls
    behind before, else "no_measurable_change".
    """
    if _lies_above(gain, better):
        return "better" if _lies_above(beyond_random, better) else "as_random"
    if _lies_above(gain, -better):
        return "worse"
    return "no_measurable_change"


def _lies_above(ci95: Sequence[float], sign: int) -> bool:
    """Whether the whole interval lies on the side of `sign`."""
    return min(sign * ci95[0], sign * ci95[1]) > 0


def judge(accuracy: Mapping[str, Any], loss: Mapping[str, Any]) -> str:
    """One of "improved", "no_measurable_change", "worse": one measure must say so clearly, and the other must not say the opposite.

    Measures that contradict each other are no measurable change.
    """
    told = {accuracy["judgement"], loss["judgement"]} & {"better", "worse"}
    return (
        {"better": "improved", "worse": "worse"}[told.pop()]
        if len(told) == 1
        else "no_measurable_change"
    )


def _runs(plan: Plan, outcomes: Outcomes) -> list[dict[str, Any]]:
    rows = []
    for seed in plan.fresh_seeds:
        for arm in ("before", "cleaned", "random"):
            one = outcomes["fresh_seeds", seed, arm]
            rows.append(
                {
                    "seed": seed,
                    "arm": arm,
                    "accuracy": float(one.correct(plan.test.labels).mean()),
                    "loss": float(one.losses.mean()),
                }
            )
    return rows


def _per_class(plan: Plan, outcomes: Outcomes) -> list[dict[str, Any]]:
    """For each class with test images: the share of them that is recognised, in the mean of the fresh seeds."""
    labels = plan.test.labels
    means = {
        arm: np.mean(
            [outcomes["fresh_seeds", seed, arm].correct(labels) for seed in plan.fresh_seeds],
            axis=0,
        )
        for arm in ("before", "cleaned", "random")
    }
    rows = []
    for label in range(plan.class_count):
        members = labels == label
        if members.any():
            shares = {arm: float(values[members].mean()) for arm, values in means.items()}
            row = {
                "label": label,
                "images": int(members.sum()),
                **shares,
                "difference": shares["cleaned"] - shares["before"],
            }
            rows.append(row)
    return rows


def _changed(plan: Plan, outcomes: Outcomes) -> dict[str, Any]:
    """Test images that the repeated run predicts otherwise: all ids, how many became right or wrong, and some in detail."""
    before, cleaned = (
        outcomes["same_seed", plan.seed, arm].predicted for arm in ("before", "cleaned")
    )
    positions = np.flatnonzero(before != cleaned)
    labels = plan.test.labels
    became_right = cleaned[positions] == labels[positions]
    became_wrong = before[positions] == labels[positions]
    # Those that say something come first: wrong before and right now, then the other way round.
    order = positions[np.argsort(2 - 2 * became_right - became_wrong, kind="stable")][:MOST_CHANGES]
    # One training's answer may be luck: in how many of the fresh starts each arm was right stands beside it.
    fresh_before, fresh_cleaned = (
        _fresh_right(plan, outcomes, arm) for arm in ("before", "cleaned")
    )
    details = [
        {
            "image_id": int(plan.test.ids[n]),
            "label": int(labels[n]),
            "before": int(before[n]),
            "cleaned": int(cleaned[n]),
            "fresh_before": int(fresh_before[n]),
            "fresh_cleaned": int(fresh_cleaned[n]),
        }
        for n in order
    ]
    return {
        "changed": plan.test.ids[positions].tolist(),
        "became_right": int(became_right.sum()),
        "became_wrong": int(became_wrong.sum()),
        "changes": details,
    }


def _fresh_right(plan: Plan, outcomes: Outcomes, arm: str) -> Floats:
    """In how many fresh starts each test image is recognised, (M,)."""
    right = (
        outcomes["fresh_seeds", seed, arm].correct(plan.test.labels) for seed in plan.fresh_seeds
    )
    return sum(right, np.zeros(len(plan.test)))


def doubt(accuracies: Sequence[float], labels: npt.NDArray[np.int64]) -> str | None:
    """A sentence where fresh starts with nothing removed learned nothing: right no more often than whoever names the largest class.

    accuracies: of each fresh start on the test images. labels: theirs, (M,).
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
        f"In {starts} the model has not learned: it names no more test images correctly than always naming the largest class would "
        f"({percent(share)}). That is the luck of trainings and says nothing of these images. Train again for longer, or with a lower learning "
        "rate, and measure then."
    )


LEADS = {
    "improved": "Cleaning made the model better",
    "no_measurable_change": "No measurable improvement",
    "worse": "Cleaning made the model worse",
}
# Where only the loss moves, that is said: as many answers are right, but they are surer, or less sure, where they should be.
LOSS_LEADS = {
    "improved": "Cleaning made the model's answers more reliable (lower loss), without a measurable change of how many are right",
    "worse": "Cleaning made the model's answers less reliable (higher loss), without a measurable change of how many are right",
}


def sentence(fresh: Mapping[str, Any], *, drawn: bool = True) -> str:
    """The verdict in words, from the fresh starts. drawn: whether there was a random removal to compare with."""
    accuracy, loss = fresh["accuracy"], fresh["loss"]
    by_accuracy = f", random removal {points(accuracy['random_difference'])}" if drawn else ""
    by_loss = f", random removal {signed(loss['random_difference'])}" if drawn else ""
    low, high = accuracy["ci95"]
    text = (
        f"{_lead(fresh)}: test accuracy {percent(accuracy['before'])} → {percent(accuracy['cleaned'])}, "
        f"{points(accuracy['difference'])} points (95 % CI {points(low)} to {points(high)}){by_accuracy}."
    )
    low, high = loss["ci95"]
    return (
        text
        + f" Test loss {loss['before']:.3f} → {loss['cleaned']:.3f} (95 % CI {signed(low)} to {signed(high)}){by_loss}."
    )


def _lead(fresh: Mapping[str, Any]) -> str:
    judgement, accuracy = fresh["judgement"], fresh["accuracy"]["judgement"]
    if judgement == "improved" and accuracy == "as_random":
        return f"{LEADS[judgement]} (by its loss; as many more right answers could come from removing any images, with so few fresh starts)"
    if judgement != "no_measurable_change" and accuracy == "no_measurable_change":
        return LOSS_LEADS[judgement]
    return LEADS[judgement]


def percent(fraction: float) -> str:
    """0.912 → "91.2 %"."""
    return f"{100 * fraction:.1f} %"


def points(fraction: float) -> str:
    """0.014 → "+1.4"; a real minus sign, and no signed zero."""
    return signed(100 * fraction, 1)


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, as people write it."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else "−") + text
