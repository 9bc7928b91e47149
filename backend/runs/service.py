"""Rules of runs and scorings."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from backend.core.catalogue import BACKBONES, METHODS, SECOND
from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.job_lifecycle import ACTIVE
from backend.core.models import (
    DataSet,
    Job,
    Review,
    Run,
    RunEpoch,
    Score,
    Scoring,
    Suggestion,
    User,
    Version,
)
from backend.core.unjudged import SENTENCES
from backend.datasets import service as datasets
from backend.jobs import service as jobs
from backend.runs import averages
from backend.runs.numbers import OWN
from backend.runs.schemas import BackboneOut, MethodOut, RunOptions, ScoringOptions
from backend.web.pagination import paginate

# Name → Arrow's word for the type.
DOWNLOAD_COLUMNS = {
    "image_id": "int64",
    "path": "string",
    "given_class": "string",
    "predicted_class": "string",
    "confidence": "double",
    "queue_position": "int64",
    "method": "string",
    "score": "double",
    "score_rank": "int64",
    "margin": "double",
    "margin_rank": "int64",
    "decision": "string",
    "cannot_judge": "string",
}


def get(session: Session, user: User, run_id: int) -> Run:  # noqa: ARG001 - visible to every user
    """Return the run. Raises NotFound."""
    run = session.get(Run, run_id)
    if run is None:
        raise NotFound("There is no such training.")
    return run


def check_imported(session: Session, data_set: DataSet) -> None:
    """Raise Conflict for a data set whose import has not finished, or failed."""
    if data_set.state == "ready" and data_set.current_version_id is not None:
        return
    job = datasets.import_job(session, data_set)
    state = job.state if job else data_set.state
    if state in ("failed", "cancelled"):
        ended = "failed" if state == "failed" else "was stopped"
        raise Conflict(
            f"The import of this data set {ended}, so there is nothing to train on. Try it again, "
            "or import another file."
        )
    if state == "asking":
        raise Conflict(
            "The import of this data set waits for an answer. Answer its question, then train."
        )
    raise Conflict("This data set is not imported yet. Wait until the import is done, then train.")


def create(session: Session, user: User, data_set: DataSet, options: RunOptions) -> Run:
    """Queue a training, or return the same training in progress.

    Raises Conflict before the import is done, NotFound for the version.
    """
    check_imported(session, data_set)
    version = session.get(
        Version, data_set.current_version_id if options.version_id is None else options.version_id
    )
    if version is None or version.data_set_id != data_set.id:
        raise NotFound("This data set has no such version.")
    # Of simultaneous requests, one makes the run.
    session.refresh(data_set, with_for_update=True)
    if started := _get_started(session, version, options):
        return started
    run = Run(
        data_set_id=data_set.id,
        version_id=version.id,
        seed=options.seed,
        recipe=options.recipe(),
        created_by=user.id,
    )
    session.add(run)
    session.flush()
    title = f"Train on {data_set.name[:200]}, version {version.number}"
    run.job_id = jobs.create(
        session,
        user,
        kind="train",
        title=title,
        subject_id=run.id,
        data_set_id=data_set.id,
        payload={"asked": options.recipe()},
    ).id
    session.flush()
    return run


def _get_started(session: Session, version: Version, options: RunOptions) -> Run | None:
    """Return the training in progress that was asked for with these options, or None.

    The job keeps what was asked for; the worker completes the run's recipe.
    """
    same = (Run.version_id == version.id, Run.seed == options.seed, Job.state.in_(ACTIVE))
    waiting = select(Run, Job).join(Job, Job.id == Run.job_id).where(*same, *OWN)
    for run, job in session.execute(waiting.order_by(Run.id)):
        if job.payload.get("asked") == options.recipe():
            return run
    return None


def get_state(run: Run, job: Job | None) -> str:
    """Return "done", or the state of its job."""
    return run.state if run.state == "done" or job is None else job.state


def get_job(session: Session, job_id: int | None) -> Job | None:
    """Return the job, or None if deleted."""
    return session.get(Job, job_id) if job_id else None


def list_epochs(session: Session, run: Run) -> Sequence[RunEpoch]:
    """List the run's epochs so far."""
    return session.scalars(
        select(RunEpoch).where(RunEpoch.run_id == run.id).order_by(RunEpoch.epoch)
    ).all()


def page(
    session: Session, data_set: DataSet, *, after: int | None = None, limit: int = 50
) -> tuple[list[tuple[Run, Job | None]], int | None]:
    """List a data set's own runs with their jobs, newest first, and the id to continue after."""
    own = (Run.data_set_id == data_set.id, *OWN)
    statement = select(Run, Job).outerjoin(Job, Job.id == Run.job_id).where(*own)
    rows, following = paginate(
        session, statement, Run.id, after=after, limit=limit, newest_first=True
    )
    return [(run, job) for run, job in rows], following


def get_latest(session: Session, data_set: DataSet) -> Run | None:
    """Return the current version's newest training: reviewed, else finished, else any."""
    mine = (Run.version_id == data_set.current_version_id, *OWN)
    reviewed = exists().where(Review.run_id == Run.id)
    return session.scalar(
        select(Run)
        .where(*mine)
        .order_by(reviewed.desc(), (Run.state == "done").desc(), Run.id.desc())
        .limit(1)
    )


def start_scoring(session: Session, user: User, run: Run, options: ScoringOptions) -> Review:
    """Queue a finished run's scoring, and make its review; the same scoring keeps its review.

    Raises Conflict or Invalid.
    """
    if run.state != "done":
        raise Conflict(
            "This training is not finished. Wait until it is, then find the harmful images."
        )
    if run.cleansing_id is not None:
        raise Conflict(
            "This training belongs to a verdict. Train on the version itself, then find its "
            "harmful images."
        )
    _check_damping(options)
    # Of simultaneous requests, one makes the review.
    session.refresh(run, with_for_update=True)
    if started := _get_review(session, run, options):
        return started
    accuracy = Scoring(run_id=run.id, method=options.method, options=options.recorded())
    # With the margin as method both rankings agree: a single scoring serves both.
    label = accuracy if options.method == SECOND else Scoring(run_id=run.id, method=SECOND)
    session.add_all({accuracy, label})
    session.flush()
    review = Review(
        data_set_id=run.data_set_id,
        version_id=run.version_id,
        run_id=run.id,
        method=options.method,
        accuracy_scoring_id=accuracy.id,
        label_scoring_id=label.id,
        created_by=user.id,
    )
    session.add(review)
    session.flush()
    if options.runs > 1:
        averages.begin(session, user, review, run, accuracy, options.runs)
        return review
    name = session.get_one(DataSet, run.data_set_id).name[:200]
    title = f"Find harmful images in {name}"
    job = jobs.create(
        session, user, kind="score", title=title, subject_id=review.id, data_set_id=run.data_set_id
    )
    review.job_id = accuracy.job_id = label.job_id = job.id
    session.flush()
    return review


def _get_review(session: Session, run: Run, options: ScoringOptions) -> Review | None:
    """Return the review of the same scoring, ready or in progress, or None."""
    found = session.execute(
        select(Review, Scoring.options)
        .join(Scoring, Scoring.id == Review.accuracy_scoring_id)
        .where(Review.run_id == run.id, Review.method == options.method)
        .order_by(Review.id)
    )
    reviews = [review for review, asked in found if asked == options.recorded()]
    return next((review for review in reviews if not _has_ended(session, review)), None)


def _has_ended(session: Session, review: Review) -> bool:
    """Tell if a review's scoring failed or was cancelled, so that it is begun again."""
    if review.state == "ready":
        return False
    parts = averages.map_members(session, [review]).get(review.id, [])
    found = [get_job(session, review.job_id), *(part.job for part in parts)]
    return any(job is not None and job.state in ("failed", "cancelled") for job in found)


def _check_damping(options: ScoringOptions) -> None:
    if options.damping != "none" and not METHODS[options.method].damps:
        known = ", ".join(name for name, method in METHODS.items() if method.damps)
        raise Invalid(
            f"The method {options.method} knows no damping. Leave it at none, or choose {known}."
        )


def list_backbones() -> list[BackboneOut]:
    """List backbones in the order of the form."""
    return [
        BackboneOut.model_validate({"name": name, **vars(facts)})
        for name, facts in BACKBONES.items()
    ]


def list_methods(run: Run) -> list[MethodOut]:
    """List methods with their cost for this run, computed by the worker."""
    costs = run.typed_report.costs
    return [
        MethodOut(
            name=name,
            called=method.called,
            title=method.title,
            meaning=method.meaning,
            harm=method.harm,
            needs=method.needs,
            spans=method.spans,
            damps=method.damps,
            costs=costs.get(name),
        )
        for name, method in METHODS.items()
    ]


def list_reviews(
    session: Session, run: Run, *, after: int | None = None, limit: int = 50
) -> tuple[list[tuple[Review, Job | None, list[Scoring]]], int | None]:
    """List a run's reviews with job and scorings, newest first, and the id to continue after."""
    statement = (
        select(Review, Job).outerjoin(Job, Job.id == Review.job_id).where(Review.run_id == run.id)
    )
    found, following = paginate(
        session, statement, Review.id, after=after, limit=limit, newest_first=True
    )
    scorings = {
        scoring.id: scoring
        for scoring in session.scalars(select(Scoring).where(Scoring.run_id == run.id))
    }
    return [(review, job, _scorings_of(review, scorings)) for review, job in found], following


def _scorings_of(review: Review, scorings: dict[int, Scoring]) -> list[Scoring]:
    wanted = dict.fromkeys((review.accuracy_scoring_id, review.label_scoring_id))
    return [scorings[scoring_id] for scoring_id in wanted if scoring_id in scorings]


def latest_review(session: Session, run: Run) -> Review:
    """Return the run's newest review that is ready. Raises NotFound."""
    ready = select(Review).where(Review.run_id == run.id, Review.state == "ready")
    review = session.scalar(ready.order_by(Review.id.desc()).limit(1))
    if review is None:
        raise NotFound("This training has no scores yet. Find its harmful images first.")
    return review


def score_page(
    session: Session, review: Review, *, after: int = 0, limit: int = 2_000
) -> tuple[list[tuple[Any, ...]], int | None]:
    """List rows of DOWNLOAD_COLUMNS in the default order, and where to continue."""
    names = session.get_one(DataSet, review.data_set_id).class_names
    reasons = _unjudged(session, review)
    harm, wrong = aliased(Score), aliased(Score)
    statement = (
        select(Suggestion, harm.value, harm.rank, wrong.value, wrong.rank)
        .join(
            harm,
            (harm.image_id == Suggestion.image_id)
            & (harm.scoring_id == review.accuracy_scoring_id),
        )
        .join(
            wrong,
            (wrong.image_id == Suggestion.image_id) & (wrong.scoring_id == review.label_scoring_id),
        )
        .where(Suggestion.review_id == review.id)
    )
    found, following = paginate(session, statement, Suggestion.position, after=after, limit=limit)
    return [_download_row(names, reasons, review.method, *row) for row in found], following


def score_rows(session: Session, review: Review) -> Iterator[tuple[Any, ...]]:
    """Yield all rows, in chunks within one transaction."""
    after: int | None = 0
    while after is not None:
        rows, after = score_page(session, review, after=after)
        yield from rows


def _unjudged(session: Session, review: Review) -> dict[int, str]:
    """Map classes to the sentences why a ranking cannot judge their images."""
    reports = (
        scoring.typed_report.unjudged
        for scoring_id in dict.fromkeys((review.accuracy_scoring_id, review.label_scoring_id))
        if (scoring := session.get(Scoring, scoring_id)) is not None
    )
    found: dict[int, list[str]] = {}
    for report in reports:
        for label, reason in report.items():
            found.setdefault(int(label), []).append(reason)
    return {label: " ".join(SENTENCES[why] for why in whys) for label, whys in found.items()}


def _download_row(
    names: list[str],
    reasons: dict[int, str],
    method: str,
    suggestion: Suggestion,
    score: float,
    score_rank: int,
    margin: float,
    margin_rank: int,
) -> tuple[Any, ...]:
    return (
        suggestion.image_id,
        suggestion.path,
        names[suggestion.label],
        names[suggestion.predicted],
        suggestion.confidence,
        suggestion.position,
        method,
        score,
        score_rank,
        margin,
        margin_rank,
        suggestion.decision or "",
        reasons.get(suggestion.label, ""),
    )
