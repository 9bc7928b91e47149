"""What every scoring does: work the scores out, rank them, write them down."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import Session

from backend.core.models import Score, Scoring
from worker import engine
from worker.engine import Images, ReplayDrift, Scores, Training
from worker.jobs import JobContext, JobFailed

# Rows of one INSERT: large enough to be fast, small enough for a progress bar that moves.
ROWS = 5_000


@dataclass(frozen=True)
class Ranking:
    """One scoring of N images: values (N,), ranks (N,) from 1, low values first, ties by image id."""

    values: np.ndarray
    ranks: np.ndarray


def score(
    context: JobContext,
    method: str,
    options: dict[str, Any],
    training: Training,
    images: Images,
    validation: Images,
) -> Scores:
    """Score a run by a method; options: as the scoring's row has them."""
    span, damping = options.get("span", "last_epoch"), options.get("damping", "none")
    context.log(
        f"Working out the ranking ({', '.join([method, *options.values()]).replace('_', ' ')})."
    )

    def scored(*, verify: bool) -> Scores:
        return engine.score(
            training,
            images,
            validation,
            method,
            span=span,
            memory_budget=context.settings.scoring_memory_bytes,
            damping="auto" if damping == "auto" else 1.0,
            verify=verify,
            progress=lambda done, total: context.progress(done, total, "Working out the ranking"),
        )

    try:
        scores = scored(verify=True)
    except ReplayDrift:
        if engine.METHODS[method].needs == "steps":
            raise
        context.log(
            "The steps of this training come out otherwise here than where it was trained, so what removing the first ones does is not measured."
        )
        scores = scored(verify=False)
    context.log(f"Done in {scores.report['seconds']:.1f} s. " + " ".join(scores.report["trust"]))
    return scores


def rank(values: np.ndarray) -> Ranking:
    """Ranks of the values, the lowest first; equal ones keep their order. Raises JobFailed where a value is not a number."""
    if not np.isfinite(values).all():
        raise JobFailed(
            "The scores are not numbers. Train with a lower learning rate and try again."
        )
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    return Ranking(values, ranks)


def write(
    session: Session, scoring_id: int | None, images: Images, scores: Scores, ranked: Ranking
) -> None:
    """Finish a scoring, in place of whatever an earlier attempt left of it."""
    scoring = session.get_one(Scoring, scoring_id)
    scoring.state, scoring.exact, scoring.report = "done", scores.exact, scores.report
    session.execute(delete(Score).where(Score.scoring_id == scoring.id))
    columns = zip(images.ids.tolist(), ranked.values.tolist(), ranked.ranks.tolist(), strict=True)
    rows = [
        {"scoring_id": scoring.id, "image_id": image_id, "value": value, "rank": rank}
        for image_id, value, rank in columns
    ]
    insert(session, Score, rows)


def insert(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    """Write many rows of a table."""
    for start in range(0, len(rows), ROWS):
        session.execute(insert_into(table), rows[start : start + ROWS])
