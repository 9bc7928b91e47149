"""Rules of jobs."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.errors import Conflict, NotFound
from backend.core.job_kinds import Lane
from backend.core.models import Job, JobLogLine, User
from backend.jobs import waiting
from backend.web.pagination import paginate


def create(
    session: Session,
    user: User | None,
    *,
    kind: str,
    title: str,
    subject_id: int,
    data_set_id: int | None,
    payload: dict[str, Any] | None = None,
    lane: Lane | None = None,
) -> Job:
    """Queue a job of a kind in `backend.core.job_kinds.KINDS`. lane: None for the kind's own."""
    job = Job(
        kind=kind,
        title=title[:300],
        subject_id=subject_id,
        data_set_id=data_set_id,
        payload=payload or {},
        lane=lane,
        created_by=user.id if user else None,
    )
    return job_lifecycle.add_job(session, job)


def get(session: Session, user: User, job_id: int) -> Job:  # noqa: ARG001 - visible to every user
    """Return the job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def page(
    session: Session, *, state: str | None = None, after: int | None = None, limit: int = 50
) -> tuple[list[Job], int | None]:
    """List jobs, newest first, and the next cursor."""
    query = select(Job) if state is None else select(Job).where(Job.state == state)
    rows, following = paginate(session, query, Job.id, after=after, limit=limit, newest_first=True)
    return [job for (job,) in rows], following


def log_tail(session: Session, job: Job, limit: int = 200) -> list[JobLogLine]:
    """List the log's end, oldest line first."""
    lines = session.scalars(
        select(JobLogLine)
        .where(JobLogLine.job_id == job.id)
        .order_by(JobLogLine.id.desc())
        .limit(limit)
    )
    return list(lines)[::-1]


def log_page(
    session: Session, job: Job, *, after: int | None = None, limit: int = 200
) -> tuple[list[JobLogLine], int | None]:
    """List log lines and the next cursor."""
    query = select(JobLogLine).where(JobLogLine.job_id == job.id)
    rows, following = paginate(session, query, JobLogLine.id, after=after, limit=limit)
    return [line for (line,) in rows], following


def describe_waiting(session: Session, job: Job) -> str | None:
    """Say what a queued job waits behind; None if nothing is ahead."""
    sentence = waiting.describe_all(session, [job]).get(job.id)
    return None if sentence == waiting.NOTHING else sentence


def cancel(session: Session, user: User, job_id: int) -> Job:
    """Stop a queued job at once, a running job at its next step.

    Raises NotFound, or Conflict if done or failed.
    """
    job = get(session, user, job_id)
    job_lifecycle.cancel_job(session, job_id, user.name)
    session.refresh(job)
    if job.state in ("done", "failed"):
        raise Conflict("This job has ended already; there is nothing to stop.")
    return job


def retry(session: Session, user: User, job_id: int) -> Job:
    """Queue a failed or cancelled job again. Raises NotFound or Conflict."""
    job = get(session, user, job_id)
    if not job_lifecycle.retry_job(session, job_id, user.name):
        raise Conflict("Only a job that failed or was cancelled can be tried again.")
    session.refresh(job)
    return job
