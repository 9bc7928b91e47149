"""Compute a scoring's scores, rank them, write them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete
from sqlalchemy import insert as insert_into
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Job, Score, Scoring
from backend.core.reports import ScoringReport
from worker import engine
from worker.engine import Images, LoneImages, ReplayDrift, Scores, Training
from worker.jobs import JobContext, JobFailed
from worker.pipeline.scoring.judgeable import Unjudged

# Per INSERT.
ROWS = 5_000
# Of `Scores`.
ARRAYS = ("values", "group_values", "relabelling")


@dataclass(frozen=True)
class Ranking:
    """Values (N,) and their ranks (N,) from 1, low values first, ties by image id."""

    values: np.ndarray
    ranks: np.ndarray


def score(
    context: JobContext,
    method: str,
    options: dict[str, Any],
    training: Training,
    images: Images,
    validation: Images,
    run_id: int,
) -> Scores:
    """Score a run by a method; options: of the scoring's row.

    A repetition of the job finds the scores that an earlier attempt kept.
    """
    if (kept := _read_kept(context, method, training, images, run_id)) is not None:
        context.log("The ranking is there already; going on from it.")
        return kept
    span, damping = options.get("span", "last_epoch"), options.get("damping", "none")
    context.log(
        f"Computing the ranking ({', '.join([method, *options.values()]).replace('_', ' ')})."
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
            progress=lambda done, total: context.progress(done, total, "Computing the ranking"),
        )

    try:
        scores = scored(verify=True)
    except ReplayDrift:
        if engine.METHODS[method].needs == "steps":
            raise
        context.log(
            "The steps of this training come out differently here than where it was trained, so "
            "the effect of removing the first images is not measured."
        )
        scores = scored(verify=False)
    except LoneImages as error:
        raise JobFailed(LoneImages.name(_class_names(context, error.classes))) from error
    context.log(f"Done in {scores.report['seconds']:.1f} s. " + " ".join(scores.report["trust"]))
    _keep(context, run_id, scores)
    return scores


def _keep(context: JobContext, run_id: int, scores: Scores) -> None:
    """Keep scores next to their run until the job is done: a safe point."""
    report = ScoringReport.model_validate(scores.report).to_json()
    facts = {**vars(scores), "report": report}
    arrays = {name: facts.pop(name) for name in ARRAYS}
    content = io.BytesIO()
    np.savez(
        content,
        facts=json.dumps(facts),
        **{name: values for name, values in arrays.items() if values is not None},
    )
    context.storage.write_run_file(run_id, _kept_name(context), content.getvalue())
    context.note_safe_point()


def _read_kept(
    context: JobContext, method: str, training: Training, images: Images, run_id: int
) -> Scores | None:
    content = context.storage.read_run_file(run_id, _kept_name(context))
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in ARRAYS if name in arrays}
        scores = Scores(**kept, **json.loads(str(arrays["facts"])))
    same = (scores.method, scores.images, scores.run) == (
        method,
        images.digest(),
        training.record.run,
    )
    return scores if same else None


def forget_kept(context: JobContext, run_id: int) -> None:
    context.storage.discard_named([f"runs/{run_id}/{_kept_name(context)}"])


def _kept_name(context: JobContext) -> str:
    return f"scores-of-job-{context.job_id}.npz"


def _class_names(context: JobContext, classes: Sequence[int]) -> list[str]:
    with context.database.transaction(write=False) as session:
        data_set_id = session.get_one(Job, context.job_id).data_set_id
        names = session.get_one(DataSet, data_set_id).class_names
    return [names[number] for number in classes]


def rank(
    values: np.ndarray, last: np.ndarray | None = None, bounds: np.ndarray | None = None
) -> Ranking:
    """Rank values, the lowest first; ties keep their order. Raises JobFailed for NaN.

    last: Images to rank behind all others, (N,) bool. bounds: To rank by instead, (N,).
    """
    bounds = values if bounds is None else bounds
    if not np.isfinite(values).all():
        raise JobFailed(
            "The scores are not numbers. Train with a lower learning rate and try again."
        )
    ranks = np.empty(len(values), dtype=np.int64)
    order = np.argsort(bounds, kind="stable") if last is None else np.lexsort((bounds, last))
    ranks[order] = np.arange(1, len(values) + 1)
    return Ranking(values, ranks)


def write(
    session: Session,
    scoring_id: int | None,
    images: Images,
    scores: Scores,
    ranked: Ranking,
    unjudged: Unjudged,
) -> None:
    """Finish a scoring, replacing an earlier attempt's rows."""
    scoring = session.get_one(Scoring, scoring_id)
    scoring.state, scoring.exact = "done", scores.exact
    report = {**scores.report, "unjudged": {str(label): why for label, why in unjudged.items()}}
    if scores.errors is not None:
        judged = ~np.isin(images.labels, list(unjudged))
        report["surely_harmful"] = int((scores.bounds[judged] < 0).sum())
    scoring.report = ScoringReport.model_validate(report).to_json()
    session.execute(delete(Score).where(Score.scoring_id == scoring.id))
    columns = zip(images.ids.tolist(), ranked.values.tolist(), ranked.ranks.tolist(), strict=True)
    rows = [
        {"scoring_id": scoring.id, "image_id": image_id, "value": value, "rank": rank}
        for image_id, value, rank in columns
    ]
    insert(session, Score, rows)


def insert(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS):
        session.execute(insert_into(table), rows[start : start + ROWS])
