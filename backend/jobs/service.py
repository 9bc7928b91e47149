"""The rules of jobs: who may see, stop and repeat them. Workers claim them (worker/jobs.py)."""

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.errors import Conflict, NotFound
from backend.core.models import Job, JobLogLine, User, now
from backend.web.pagination import paginate

ACTIVE = ("queued", "running")
STATES = ("queued", "running", "done", "failed", "cancelled")


def create(
    session: Session,
    user: User | None,
    *,
    kind: str,
    title: str,
    subject_id: int,
    data_set_id: int | None,
    payload: dict[str, Any] | None = None,
) -> Job:
    """A queued job of a kind in `backend.core.queue.TASKS`; its message leaves after the commit."""
    job = Job(
        kind=kind,
        title=title[:300],
        subject_id=subject_id,
        data_set_id=data_set_id,
        payload=payload or {},
        created_by=user.id if user else None,
    )
    return queue.add(session, job)


def get(session: Session, user: User, job_id: int) -> Job:  # noqa: ARG001 - everyone who is signed in sees every job
    """The job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def page(
    session: Session, *, state: str | None = None, after: int | None = None, limit: int = 50
) -> tuple[list[Job], int | None]:
    """Jobs, newest first, and the cursor of the next page or None."""
    query = select(Job) if state is None else select(Job).where(Job.state == state)
    rows, following = paginate(session, query, Job.id, after=after, limit=limit, newest_first=True)
    return [job for (job,) in rows], following


def log_tail(session: Session, job: Job, limit: int = 200) -> list[JobLogLine]:
    """The last lines of the job's log, oldest first."""
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
    """Log lines in order, and the cursor of the next page or None."""
    query = select(JobLogLine).where(JobLogLine.job_id == job.id)
    rows, following = paginate(session, query, JobLogLine.id, after=after, limit=limit)
    return [line for (line,) in rows], following


def cancel(session: Session, user: User, job_id: int) -> Job:
    """Stop the job: a queued one at once, a running one at its next step. Idempotent. Raises NotFound, or Conflict when it ended otherwise."""
    job = get(session, user, job_id)
    waiting = update(Job).where(Job.id == job_id, Job.state == "queued")
    running = update(Job).where(
        Job.id == job_id, Job.state == "running", Job.cancel_requested.is_(False)
    )
    # Conditional: a worker may claim or end the job between our look and this write.
    if session.scalar(waiting.values(state="cancelled", finished_at=now()).returning(Job.id)):
        session.add(
            JobLogLine(job_id=job_id, message=f"Cancelled by {user.name} before it started.")
        )
    elif session.scalar(running.values(cancel_requested=True).returning(Job.id)):
        session.add(JobLogLine(job_id=job_id, message=f"{user.name} asked to stop it."))
    session.refresh(job)
    if job.state in ("done", "failed"):
        raise Conflict("This job has ended already; there is nothing to stop.")
    return job


def retry(session: Session, user: User, job_id: int) -> Job:
    """Queue a failed or cancelled job again, the same row, with its attempts counted anew. Raises NotFound or Conflict."""
    job = get(session, user, job_id)
    again = (
        update(Job).where(Job.id == job_id, Job.state.in_(("failed", "cancelled"))).values(**_FRESH)
    )
    if session.scalar(again.returning(Job.id)) is None:
        raise Conflict("Only a job that failed or was cancelled can be tried again.")
    session.add(JobLogLine(job_id=job_id, message=f"Queued again by {user.name}."))
    queue.enqueue(session, job.kind, job.id)
    session.refresh(job)
    return job


_FRESH: dict[str, Any] = {
    "state": "queued",
    "attempts": 0,
    "claim": None,
    "cancel_requested": False,
    "error": None,
    "progress_done": 0,
    "progress_total": 0,
    "progress_message": "",
    "seconds_left": None,
    "started_at": None,
    "heartbeat_at": None,
    "finished_at": None,
}
