"""Average scores over runs with different seeds (docs/decisions/0024).

A training's end queues its run's scoring, and the last scoring's end queues the review's job.
No job waits for another: one worker is enough, and several share the work.
"""

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.models import DataSet, Job, Review, Run, Score, Scoring
from backend.core.storage import Storage
from worker import engine
from worker.engine import Images, Scores, Training
from worker.jobs import JobContext
from worker.pipeline import engine_setup, load_images
from worker.pipeline.scoring import judgeable, write_scores


def score_member(context: JobContext) -> None:
    """Score a member's run, and queue the average after the last."""
    with context.database.transaction(write=False) as session:
        scoring = session.get_one(Scoring, context.payload["scoring_id"])
        run = session.get_one(Run, scoring.run_id)
        images = load_images.load(session, context.storage, run.version_id, "train", run.recipe)
        validation = load_images.load(
            session, context.storage, run.version_id, "validation", run.recipe
        )
    engine_setup.ready(context.settings, context.storage)
    training = engine_setup.load_training(context.storage, run.id)
    scores = write_scores.score(
        context, scoring.method, scoring.options, training, images, validation, run.id
    )
    unjudged = judgeable.find_unjudged(scoring.method, images, validation)
    last = judgeable.select_images(images, unjudged)
    ranked = write_scores.rank(scores.values, last, scores.bounds)
    with context.finish() as session:
        write_scores.write(session, scoring.id, images, scores, ranked, unjudged)
        assert scoring.review_id is not None
        queue_average(session, scoring.review_id)
    write_scores.forget_kept(context, run.id)


def queue_average(session: Session, review_id: int) -> None:
    # The row is the lock: of two members that end at once, the later sees both.
    review = session.get_one(Review, review_id, with_for_update=True, populate_existing=True)
    missing = (
        select(func.count())
        .select_from(Scoring)
        .where(Scoring.review_id == review_id, Scoring.state != "done")
    )
    if review.job_id is not None or session.scalar(missing):
        return
    name = session.get_one(DataSet, review.data_set_id).name[:200]
    review.job_id = _queue(
        session, "score", f"Find harmful images in {name}, by an average", review.id, review
    ).id
    for scoring_id in {review.accuracy_scoring_id, review.label_scoring_id}:
        session.get_one(Scoring, scoring_id).job_id = review.job_id


def queue_members(session: Session, run: Run) -> None:
    """Queue the scorings that wait for this run's training. The caller locks the run's row."""
    waiting = select(Scoring).where(
        Scoring.run_id == run.id, Scoring.review_id.is_not(None), Scoring.job_id.is_(None)
    )
    for scoring in session.scalars(waiting).all():
        review = session.get_one(Review, scoring.review_id)
        name = session.get_one(DataSet, run.data_set_id).name[:200]
        title = f"Score a training on {name} with seed {run.seed}, for an average"
        scoring.job_id = _queue(session, "member", title, run.id, review, scoring_id=scoring.id).id


def _queue(
    session: Session, kind: str, title: str, subject_id: int, review: Review, **payload: int
) -> Job:
    job = Job(
        kind=kind,
        title=title,
        subject_id=subject_id,
        data_set_id=review.data_set_id,
        payload=payload,
        created_by=review.created_by,
    )
    return job_lifecycle.add_job(session, job)


def list_members(session: Session, review_id: int) -> list[Scoring]:
    """List an average's scorings; none for a review of a single run."""
    return list(
        session.scalars(select(Scoring).where(Scoring.review_id == review_id).order_by(Scoring.id))
    )


def average(
    session: Session, parts: list[Scoring], trainings: list[Training], images: Images
) -> Scores:
    """Average the members' stored scores. trainings: of the members, in their order."""
    digest = images.digest()
    return engine.ensemble(
        [
            Scores(
                _values(session, part, images),
                part.method,
                part.exact,
                part.report,
                digest,
                training.record.run,
            )
            for part, training in zip(parts, trainings, strict=True)
        ]
    )


def load_trainings(storage: Storage, parts: list[Scoring]) -> list[Training]:
    return [engine_setup.load_training(storage, part.run_id) for part in parts]


def _values(session: Session, scoring: Scoring, images: Images) -> np.ndarray:
    rows = session.execute(
        select(Score.image_id, Score.value)
        .where(Score.scoring_id == scoring.id)
        .order_by(Score.image_id)
    ).all()
    ids, values = zip(*rows, strict=True)
    assert np.array_equal(ids, images.ids)  # both are in order of id
    return np.array(values, dtype=np.float64)
