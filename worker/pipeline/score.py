"""A scoring's job: score a run's images by the chosen method and by margin, and lay out the review's queue."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, insert, select

from backend.models import Image, Review, Run, Score, Scoring, Suggestion
from worker import engine
from worker.engine import Images, Scores, Training
from worker.jobs import JobContext, JobFailed
from worker.pipeline import arrays, machine

# Rows of one INSERT: large enough to be fast, small enough for a progress bar that moves.
ROWS = 5_000


@dataclass(frozen=True)
class Ranking:
    """One scoring of N images: values (N,), ranks (N,) from 1, low values first, ties by image id."""

    values: np.ndarray
    ranks: np.ndarray


def score_run(context: JobContext) -> None:
    """Score the run of the review that this job is for, by the method asked for and by margin."""
    with context.database.transaction(write=False) as session:
        review = session.get_one(Review, context.subject_id)
        run = session.get_one(Run, review.run_id)
        options = session.get_one(Scoring, review.accuracy_scoring_id).options
        if run.state != "done":
            raise JobFailed("The training is not finished; wait for it, then ask for the harmful images again.")
        images = arrays.load(session, context.storage, run.version_id, "train")
        validation = arrays.load(session, context.storage, run.version_id, "validation")
        described = _descriptions(
            session.execute(select(Image.id, Image.content_hash, Image.path).where(Image.data_set_id == run.data_set_id))
        )
    machine.ready(context.settings, context.storage)
    training = engine.load_training(context.storage.run(run.id))
    chosen = _scores(context, review.method, options, training, images, validation)
    single = review.accuracy_scoring_id == review.label_scoring_id
    wrong = chosen if single else engine.score(training, images, validation, "margin")
    context.log("Looking at what the model sees in each training image.")
    probabilities = engine.predict(training, images)
    accuracy, label = ranking(chosen.values), ranking(wrong.values)
    rows = suggestions(images, accuracy, label, probabilities, described, single=single)
    context.log(f"Writing {len(images):,} suggestions.")
    with context.finish() as session:
        # A repeated attempt replaces whatever an earlier one left.
        session.execute(delete(Suggestion).where(Suggestion.review_id == review.id))
        written = {review.accuracy_scoring_id: (chosen, accuracy), review.label_scoring_id: (wrong, label)}
        for scoring_id, (scores, ranked) in written.items():
            scoring = session.get_one(Scoring, scoring_id)
            scoring.state, scoring.exact, scoring.report = "done", scores.exact, scores.report
            session.execute(delete(Score).where(Score.scoring_id == scoring_id))
            _insert(session, Score, score_rows(images, ranked, scoring.id))
        _insert(session, Suggestion, [{"review_id": review.id, **row} for row in rows])
        ready = session.get_one(Review, review.id)
        ready.state, ready.suggestion_count = "ready", len(images)


def ranking(values: np.ndarray) -> Ranking:
    """Ranks of the values, the lowest first; equal ones keep their order. Raises JobFailed where a value is not a number."""
    if not np.isfinite(values).all():
        raise JobFailed("The scores are not numbers. Train with a lower learning rate and try again.")
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    return Ranking(values, ranks)


def in_turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Positions (N,) from 1 in the default queue: the next of the first ranking, the next of the second, each image once.

    first, second: ranks (N,) from 1. An image's place among the turns is its first turn, 2r−1 in the first ranking or 2r in the second;
    skipping those that came already keeps that order (product.md, "The default queue").
    """
    turn = np.minimum(2 * first - 1, 2 * second)
    positions = np.empty(len(turn), dtype=np.int64)
    positions[np.argsort(turn, kind="stable")] = np.arange(1, len(turn) + 1)
    return positions


def brought_by(first: np.ndarray, second: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Which ranking brought each image: "both" where both have it among as many as the queue has shown by then, (N,) of str."""
    both = (first <= positions) & (second <= positions)
    return np.where(both, "both", np.where(2 * first - 1 < 2 * second, "accuracy", "label"))


def suggestions(
    images: Images,
    accuracy: Ranking,
    label: Ranking,
    probabilities: np.ndarray,
    described: dict[int, tuple[str, str]],
    *,
    single: bool = False,
) -> list[dict[str, Any]]:
    """One row an image for the table `suggestions`, without its review.

    probabilities: (N, classes). described: id → (hash, path). single: both rankings are the label's, which then brings every image.
    """
    positions = in_turn(accuracy.ranks, label.ranks)
    predicted = probabilities.argmax(1)
    everyone = np.arange(len(images))
    columns = {
        "image_id": images.ids,
        "position": positions,
        "brought_by": np.full(len(images), "label") if single else brought_by(accuracy.ranks, label.ranks, positions),
        "accuracy_rank": accuracy.ranks,
        "label_rank": label.ranks,
        "accuracy_value": accuracy.values,
        "label_value": label.values,
        "label": images.labels,
        "predicted": predicted,
        "confidence": probabilities[everyone, predicted].astype(np.float64),
        "label_confidence": probabilities[everyone, images.labels].astype(np.float64),
        "row": everyone if images.rows is None else images.rows,
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*(column.tolist() for column in columns.values()), strict=True)]
    for row in rows:
        row["content_hash"], row["path"] = described[row["image_id"]]
    return rows


def score_rows(images: Images, ranked: Ranking, scoring_id: int) -> list[dict[str, Any]]:
    """One row an image for the table `scores`."""
    columns = zip(images.ids.tolist(), ranked.values.tolist(), ranked.ranks.tolist(), strict=True)
    return [{"scoring_id": scoring_id, "image_id": image_id, "value": value, "rank": rank} for image_id, value, rank in columns]


def _scores(context: JobContext, method: str, options: dict[str, Any], training: Training, images: Images, validation: Images) -> Scores:
    span, damping = options.get("span", "last_epoch"), options.get("damping", "none")
    context.log(f"Working out the ranking ({', '.join([method, *options.values()]).replace('_', ' ')}).")
    scores = engine.score(
        training,
        images,
        validation,
        method,
        span=span,
        memory_budget=context.settings.scoring_memory_bytes,
        damping="auto" if damping == "auto" else 1.0,
        verify=True,
        progress=lambda done, total: context.progress(done, total, "Working out the ranking"),
    )
    context.log(f"Done in {scores.report['seconds']:.1f} s. " + " ".join(scores.report["trust"]))
    return scores


def _descriptions(rows: Any) -> dict[int, tuple[str, str]]:
    return {image_id: (content_hash, path) for image_id, content_hash, path in rows}


def _insert(session: Any, table: Any, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS):
        session.execute(insert(table), rows[start : start + ROWS])
