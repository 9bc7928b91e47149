"""Averages over runs with different seeds: which runs take part, and their jobs (docs/decisions/0024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Job, Review, Run, Scoring, User
from backend.jobs import service as jobs
from backend.jobs.schemas import JobOut
from backend.runs.schemas import MemberOut

# A seed lies below this.
SEEDS = 2**31


@dataclass(frozen=True)
class Member:
    """One run of an average, its scoring, and the job that is on: the scoring's once there is one, else the training's."""

    run: Run
    scoring: Scoring
    job: Job | None


def begin(
    session: Session, user: User, review: Review, run: Run, scoring: Scoring, count: int
) -> None:
    """Queue what an average of `count` runs needs: trainings with other seeds where they are missing, and a scoring of each run.

    The review itself gets its job from the last member that is done. A finished run is scored at once; the others when their training ends.
    """
    options = {name: value for name, value in scoring.options.items() if name != "runs"}
    for member in [run, *_repeats(session, user, run, count - 1)]:
        # Held until the commit: the training may be ending right now, and one of us must see what the other did.
        session.refresh(member, with_for_update=True)
        part = Scoring(
            run_id=member.id, review_id=review.id, method=scoring.method, options=options
        )
        session.add(part)
        session.flush()
        if member.state == "done":
            part.job_id = _queue_scoring(session, user, member, part).id


def of_reviews(session: Session, reviews: Sequence[Review]) -> dict[int, list[Member]]:
    """Review id → its members in order of their runs; reviews of a single run are left out. Two statements however many there are."""
    wanted = [review.id for review in reviews]
    rows = session.execute(
        select(Scoring, Run)
        .join(Run, Run.id == Scoring.run_id)
        .where(Scoring.review_id.in_(wanted))
        .order_by(Scoring.id)
    ).all()
    known = {scoring.job_id or run.job_id for scoring, run in rows}
    found = (
        {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(known)))}
        if rows
        else {}
    )
    members: dict[int, list[Member]] = {}
    for scoring, run in rows:
        assert scoring.review_id is not None  # as the statement asks
        members.setdefault(scoring.review_id, []).append(
            Member(run, scoring, found.get(scoring.job_id or run.job_id or 0))
        )
    return members


def shown(members: Sequence[Member]) -> list[MemberOut]:
    """The members as the API shows them."""
    return [
        MemberOut(
            run_id=one.run.id,
            seed=one.run.seed,
            state=one.scoring.state,
            job=JobOut.model_validate(one.job) if one.job else None,
        )
        for one in members
    ]


def _repeats(session: Session, user: User, run: Run, count: int) -> list[Run]:
    """The first `count` runs that repeat this one with another seed: those that there are, and new ones, their trainings queued."""
    known = list(
        session.scalars(
            select(Run).where(Run.repeats_run_id == run.id).order_by(Run.id).limit(count)
        )
    )
    for repeat in known:
        job = session.get(Job, repeat.job_id) if repeat.job_id else None
        if repeat.state != "done" and job is not None and job.state in ("failed", "cancelled"):
            jobs.retry(session, user, job.id)
    seeds = [(run.seed + step) % SEEDS for step in range(1, count + 1)]
    return known + [_repeat(session, user, run, seed) for seed in seeds[len(known) :]]


def _repeat(session: Session, user: User, run: Run, seed: int) -> Run:
    repeat = Run(
        data_set_id=run.data_set_id,
        version_id=run.version_id,
        recipe={**run.recipe, "seed": seed},
        seed=seed,
        repeats_run_id=run.id,
        created_by=user.id,
    )
    session.add(repeat)
    session.flush()
    name = session.get_one(DataSet, run.data_set_id).name[:200]
    title = f"Train on {name} with seed {seed}, for an average"
    repeat.job_id = jobs.create(
        session, user, kind="train", title=title, subject_id=repeat.id, data_set_id=run.data_set_id
    ).id
    session.flush()
    return repeat


def _queue_scoring(session: Session, user: User, run: Run, scoring: Scoring) -> Job:
    title = f"Score training {run.id} (seed {run.seed}), for an average"
    payload = {"scoring_id": scoring.id}
    return jobs.create(
        session,
        user,
        kind="member",
        title=title,
        subject_id=run.id,
        data_set_id=run.data_set_id,
        payload=payload,
    )
