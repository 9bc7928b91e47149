"""Averages over runs with different seeds (docs/decisions/0024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Job, Review, Run, Scoring, User
from backend.jobs import service as jobs
from backend.jobs.schemas import JobOut
from backend.runs.schemas import MemberOut

# Seeds are below this.
SEEDS = 2**31


@dataclass(frozen=True)
class Member:
    """A run of an average, its scoring, and its current job: scoring, else training."""

    run: Run
    scoring: Scoring
    job: Job | None


def begin(
    session: Session, user: User, review: Review, run: Run, scoring: Scoring, count: int
) -> None:
    """Queue an average of `count` runs: missing trainings, and a scoring of each run.

    A finished run is scored at once, the others after training. The last scoring queues the
    review's own job.
    """
    options = {name: value for name, value in scoring.options.items() if name != "runs"}
    for member in [run, *_repeats(session, user, run, count - 1)]:
        # Locked until commit: a training that ends now must see the scoring, or be seen.
        session.refresh(member, with_for_update=True)
        part = Scoring(
            run_id=member.id, review_id=review.id, method=scoring.method, options=options
        )
        session.add(part)
        session.flush()
        if member.state == "done":
            part.job_id = _queue_scoring(session, user, member, part).id


def map_members(session: Session, reviews: Sequence[Review]) -> dict[int, list[Member]]:
    """Map review id → members, for reviews of averages, in two statements."""
    wanted = [review.id for review in reviews]
    rows = session.execute(
        select(Scoring, Run)
        .join(Run, Run.id == Scoring.run_id)
        .where(Scoring.review_id.in_(wanted))
        .order_by(Scoring.id)
    ).all()
    job_ids = {scoring.job_id or run.job_id for scoring, run in rows}
    found = (
        {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}
        if rows
        else {}
    )
    members: dict[int, list[Member]] = {}
    for scoring, run in rows:
        assert scoring.review_id is not None
        members.setdefault(scoring.review_id, []).append(
            Member(run, scoring, found.get(scoring.job_id or run.job_id or 0))
        )
    return members


def to_json(members: Sequence[Member]) -> list[MemberOut]:
    """Convert members to the API's shape."""
    return [
        MemberOut(
            run_id=member.run.id,
            seed=member.run.seed,
            state=member.scoring.state,
            job=JobOut.model_validate(member.job) if member.job else None,
        )
        for member in members
    ]


def _repeats(session: Session, user: User, run: Run, count: int) -> list[Run]:
    """Return `count` runs that differ in seed only; queue those missing or failed."""
    there = list(
        session.scalars(
            select(Run).where(Run.repeats_run_id == run.id).order_by(Run.id).limit(count)
        )
    )
    for repeat in there:
        job = session.get(Job, repeat.job_id) if repeat.job_id else None
        if repeat.state != "done" and job is not None and job.state in ("failed", "cancelled"):
            jobs.retry(session, user, job.id)
    seeds = [(run.seed + step) % SEEDS for step in range(1, count + 1)]
    return there + [_repeat(session, user, run, seed) for seed in seeds[len(there) :]]


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
    name = session.get_one(DataSet, run.data_set_id).name[:200]
    title = f"Score a training on {name} with seed {run.seed}, for an average"
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
