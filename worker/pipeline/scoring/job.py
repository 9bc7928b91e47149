"""Job of a review: score a run by a method and by margin, and make the queue."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from backend.core.catalogue import SECOND
from backend.core.models import Explanation, Image, MapPoint, Review, Run, Scoring, Suggestion
from worker import engine
from worker.engine import Images, Scores, Training
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup, load_images
from worker.pipeline.scoring import averages, explanations, judgeable, similarity
from worker.pipeline.scoring.write_scores import (
    Ranking,
    forget_kept,
    insert,
    rank,
    score,
    write,
)

# Where the bar is after the ranking, and after the explanations of the first images.
RANKED, EXPLAINED = 0.7, 0.9


@dataclass(frozen=True)
class Assignment:
    """A review to fill, and its run's training images.

    options: of the first ranking's scoring. members: of an average.
    described: image id → (hash, path). placed: id of the run's other review with a map.
    """

    review: Review
    options: dict[str, Any]
    members: list[Scoring]
    images: Images
    validation: Images
    described: dict[int, tuple[str, str]]
    placed: int | None

    @property
    def single(self) -> bool:
        """True where both rankings are the same."""
        return self.review.accuracy_scoring_id == self.review.label_scoring_id


def score_run(context: JobContext) -> None:
    """Score the review's run, or average its members' scores, and write the queue."""
    asked = _asked(context)
    review, images = asked.review, asked.images
    began = time.monotonic()
    engine_setup.ready(context.settings, context.storage)
    training = engine_setup.load_training(context.storage, review.run_id)
    context.phase(0.0, RANKED)
    chosen, wrong = _scores(context, asked, training)
    context.log("Looking at what the model sees in each training image.")
    context.phase(RANKED, EXPLAINED)
    context.progress(0, 1, "Looking at what the model sees")
    probabilities = engine.predict(training, images)
    predicted = probabilities.argmax(1)
    unharmed, unlearned = (
        judgeable.find_unjudged(method, images, asked.validation, predicted)
        for method in (review.method, SECOND)
    )
    accuracy = rank(chosen.values, judgeable.select_images(images, unharmed), chosen.bounds)
    label = rank(wrong.values, judgeable.select_images(images, unlearned))
    rows = suggestions(
        images, chosen, accuracy, label, probabilities, asked.described, single=asked.single
    )
    in_order = images.ids[np.argsort([row["position"] for row in rows])]
    explainer = explanations.Explainer.of(training, images, asked.validation, asked.options)
    explained = explanations.explain_first(context, explainer, in_order, time.monotonic() - began)
    context.phase(EXPLAINED, 1.0)
    points = [] if asked.placed else similarity.make_rows(context, training, images, predicted)
    context.log(f"Writing {len(images):,} suggestions.")
    with context.finish() as session:
        written = {
            review.accuracy_scoring_id: (chosen, accuracy, unharmed),
            review.label_scoring_id: (wrong, label, unlearned),
        }
        for scoring_id, (scores, ranked, unjudged) in written.items():
            write(session, scoring_id, images, scores, ranked, unjudged)
        _replace(session, Suggestion, review.id, rows)
        _replace(session, MapPoint, review.id, points)
        if asked.placed:
            similarity.copy_rows(session, asked.placed, review.id)
        _replace(session, Explanation, review.id, explained)
        ready = session.get_one(Review, review.id)
        ready.state, ready.suggestion_count = "ready", len(images)
    forget_kept(context, review.run_id)


def _asked(context: JobContext) -> Assignment:
    with context.database.transaction(write=False) as session:
        review = session.get_one(Review, context.subject_id)
        run = session.get_one(Run, review.run_id)
        if run.state != "done":
            raise JobFailed(
                "The training is not finished; wait for it, then ask for the harmful images again."
            )
        rows = session.execute(
            select(Image.id, Image.content_hash, Image.path).where(
                Image.data_set_id == run.data_set_id
            )
        )
        return Assignment(
            review,
            session.get_one(Scoring, review.accuracy_scoring_id).options,
            averages.list_members(session, review.id),
            load_images.load(session, context.storage, run.version_id, "train", run.recipe),
            load_images.load(session, context.storage, run.version_id, "validation", run.recipe),
            {image_id: (content_hash, path) for image_id, content_hash, path in rows},
            similarity.find_review_with_map(session, review),
        )


def _scores(context: JobContext, asked: Assignment, training: Training) -> tuple[Scores, Scores]:
    review, images, validation = asked.review, asked.images, asked.validation
    runs = averages.load_trainings(context.storage, asked.members) or [training]
    if asked.members:
        chosen = _average(context, asked.members, runs, images)
    else:
        chosen = score(
            context, review.method, asked.options, training, images, validation, review.run_id
        )
    return chosen, chosen if asked.single else _margins(runs, images, validation)


def _replace(session: Session, table: Any, review_id: int, rows: list[dict[str, Any]]) -> None:
    session.execute(delete(table).where(table.review_id == review_id))
    insert(session, table, [{"review_id": review_id, **row} for row in rows])


def in_turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Interleave two rankings, ranks (N,) from 1, into positions (N,) of the default queue.

    Each image comes at its first turn, 2r−1 in the first ranking or 2r in the second.
    """
    turn = np.minimum(2 * first - 1, 2 * second)
    positions = np.empty(len(turn), dtype=np.int64)
    positions[np.argsort(turn, kind="stable")] = np.arange(1, len(turn) + 1)
    return positions


def brought_by(first: np.ndarray, second: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Name each image's ranking, (N,): "both" where both rank it as early as the queue."""
    both = (first <= positions) & (second <= positions)
    return np.where(both, "both", np.where(2 * first - 1 < 2 * second, "accuracy", "label"))


def suggestions(
    images: Images,
    scores: Scores,
    accuracy: Ranking,
    label: Ranking,
    probabilities: np.ndarray,
    described: dict[int, tuple[str, str]],
    *,
    single: bool = False,
) -> list[dict[str, Any]]:
    """Make rows for the table `suggestions`, without their review.

    Args:
        images: N training images.
        scores: By the chosen method.
        accuracy: The chosen method's ranking.
        label: The ranking by margin.
        probabilities: Of the finished model, (N, classes).
        described: Image id → (hash, path).
        single: Both rankings are the label's.
    """
    positions = in_turn(accuracy.ranks, label.ranks)
    errors = scores.errors
    predicted = probabilities.argmax(1)
    everyone = np.arange(len(images))
    columns = {
        "image_id": images.ids,
        "position": positions,
        "brought_by": np.full(len(images), "label")
        if single
        else brought_by(accuracy.ranks, label.ranks, positions),
        "accuracy_rank": accuracy.ranks,
        "label_rank": label.ranks,
        "accuracy_value": accuracy.values,
        "accuracy_error": np.full(len(images), None) if errors is None else errors,
        "better_label": _without(scores.better_labels, scores.better_labels < 0),
        "label_value": label.values,
        "label": images.labels,
        "predicted": predicted,
        "confidence": probabilities[everyone, predicted].astype(np.float64),
        "label_confidence": probabilities[everyone, images.labels].astype(np.float64),
        "row": everyone if images.rows is None else images.rows,
    }
    rows = [
        dict(zip(columns, values, strict=True))
        for values in zip(*(column.tolist() for column in columns.values()), strict=True)
    ]
    for row in rows:
        row["content_hash"], row["path"] = described[row["image_id"]]
    return rows


def _without(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Return values (N,) with None where they are absent, (N,) bool."""
    found = values.astype(object)
    found[absent] = None
    return found


def _average(
    context: JobContext, parts: list[Scoring], runs: list[Training], images: Images
) -> Scores:
    context.log(f"Averaging the scores of {len(parts)} trainings.")
    with context.database.transaction(write=False) as session:
        averaged = averages.average(session, parts, runs, images)
    context.log(" ".join(averaged.report["trust"]))
    return averaged


def _margins(runs: list[Training], images: Images, validation: Images) -> Scores:
    margins = [engine.score(training, images, validation, SECOND) for training in runs]
    return engine.ensemble(margins) if len(margins) > 1 else margins[0]
