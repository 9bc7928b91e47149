"""Reasons for which a queued job waits, and for how long."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, object_session

from backend.core.job_lifecycle import ACTIVE
from backend.core.models import Job, now
from backend.web.rendering import about, counted

NOTHING = "Waiting for a free worker. It starts by itself."
# A quick job that waits longer has no worker of its own.
PROMPT = timedelta(seconds=10)


def describe(job: Job) -> str:
    """Say what a queued job of an open session waits behind."""
    session = object_session(job)
    return NOTHING if session is None else describe_all(session, [job]).get(job.id, NOTHING)


def describe_all(session: Session, jobs: Sequence[Job]) -> dict[int, str]:
    """Map the id of each queued job to a sentence: what is ahead, and how long that takes."""
    waiting = [job for job in jobs if job.state == "queued"]
    if not waiting:
        return {}
    columns = (Job.id, Job.state, Job.lane, Job.title, Job.seconds_left)
    active = session.execute(select(*columns).where(Job.state.in_(ACTIVE)).order_by(Job.id)).all()
    return {job.id: _sentence(job, active) for job in waiting}


def _sentence(job: Job, active: Sequence[Row[int, str, str, str, float | None]]) -> str:
    running = [other for other in active if other.state == "running"]
    if job.lane == "quick":
        quick = [other for other in running if other.lane == "quick"]
        waits_for_any = now() - job.created_at > PROMPT
        running = quick or (running if waits_for_any else [])
    queued = [
        other
        for other in active
        if other.state == "queued"
        and (other.lane == "quick", -other.id) > (job.lane == "quick", -job.id)
    ]
    if not running:
        if not queued:
            return NOTHING
        return f"Waiting behind {counted(len(queued), 'other job')}. It starts by itself."
    first = min(running, key=lambda other: (other.seconds_left is None, other.seconds_left or 0))
    left = "" if first.seconds_left is None else f", {about(first.seconds_left)} left"
    more = f", and {counted(len(queued), 'job')} more" if queued else ""
    return f"Waiting behind: {first.title}{left}{more}."
