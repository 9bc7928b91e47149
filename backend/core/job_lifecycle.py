"""Transitions of a job's row, for the web and the worker.

    queued → running → done | failed | cancelled

Every write is conditional on the state, and on the claim where a worker holds one.
"""

from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.job_kinds import KINDS
from backend.core.models import Job, JobLogLine, now

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
EndState = Literal["done", "failed", "cancelled"]
STATES = get_args(JobState)
ACTIVE = ("queued", "running")

Condition = ColumnElement[bool]


def add_job(session: Session, job: Job) -> Job:
    """Queue a new job. Raises KeyError for an unknown kind."""
    KINDS[job.kind]
    session.add(job)
    session.flush()
    queue.enqueue(session, job.id)
    return job


def add_log_line(session: Session, job_id: int, message: str) -> None:
    session.add(JobLogLine(job_id=job_id, message=message))


# ── the web's side ──


def cancel_job(session: Session, job_id: int, user_name: str) -> None:
    """Cancel a queued job, or stop a running job."""
    queued = (Job.id == job_id, Job.state == "queued")
    running = (Job.id == job_id, Job.state == "running", Job.cancel_requested.is_(False))
    if _update(session, queued, state="cancelled", finished_at=now()):
        add_log_line(session, job_id, f"Cancelled by {user_name} before it started.")
    elif _update(session, running, cancel_requested=True):
        add_log_line(session, job_id, f"{user_name} asked to stop it.")


def retry_job(session: Session, job_id: int, user_name: str) -> bool:
    """Requeue a failed or cancelled job with fresh attempts; False for any other state."""
    ended = (Job.id == job_id, Job.state.in_(("failed", "cancelled")))
    if not _update(session, ended, **_FRESH):
        return False
    add_log_line(session, job_id, f"Queued again by {user_name}.")
    queue.enqueue(session, job_id)
    return True


def is_silent(since: datetime) -> tuple[Condition, ...]:
    """Conditions for running jobs with an old heartbeat."""
    return (Job.state == "running", Job.heartbeat_at < since)


def count_jobs(session: Session, *where: Condition) -> int:
    return session.scalar(select(func.count()).select_from(Job).where(*where)) or 0


def count_queued(session: Session) -> int:
    return count_jobs(session, Job.state == "queued")


def resend_queued(session: Session) -> int:
    """Send a message for every queued job; returns their number."""
    job_ids = session.scalars(select(Job.id).where(Job.state == "queued").order_by(Job.id)).all()
    for job_id in job_ids:
        queue.enqueue(session, job_id)
    return len(job_ids)


# ── the worker's side ──


def is_held(job_id: int, claim: str) -> tuple[Condition, ...]:
    """Conditions for a running job that this claim holds."""
    return (Job.id == job_id, Job.claim == claim, Job.state == "running")


def claim_job(session: Session, job_id: int, claim: str, max_attempts: int) -> Job | None:
    """Start a queued job under this claim; fail it if its attempts are used up."""
    queued = (Job.id == job_id, Job.state == "queued")
    started = {
        "state": "running",
        "claim": claim,
        "attempts": Job.attempts + 1,
        "started_at": now(),
        "heartbeat_at": now(),
        "error": None,
    }
    statement = update(Job).where(*queued, Job.attempts < max_attempts)
    job: Job | None = session.scalar(statement.values(**started).returning(Job))
    if job is not None:
        again = f" (attempt {job.attempts} of {max_attempts})" if job.attempts > 1 else ""
        add_log_line(session, job_id, f"Started{again}.")
        return job
    error = (
        f"Given up after {max_attempts} attempts: the worker died each time. "
        "The worker's own output may say why."
    )
    failed = {"state": "failed", "error": error, "finished_at": now(), "seconds_left": None}
    if _update(session, (*queued, Job.attempts >= max_attempts), **failed):
        add_log_line(session, job_id, error)
    return None


def write_heartbeat(session: Session, job_id: int, claim: str, **values: Any) -> bool | None:
    """Write the heartbeat and values; returns `cancel_requested`, or None for a lost claim."""
    statement = update(Job).where(*is_held(job_id, claim)).values(heartbeat_at=now(), **values)
    return session.scalar(statement.returning(Job.cancel_requested))


def end_job(
    session: Session, job_id: int, claim: str, state: EndState, line: str, **values: Any
) -> bool:
    """End a claimed job, with a last log line; False for a lost claim."""
    ended = {"state": state, "claim": None, "finished_at": now(), "seconds_left": None}
    if not _update(session, is_held(job_id, claim), **ended, **values):
        return False
    add_log_line(session, job_id, line)
    return True


def interrupt_job(session: Session, job_id: int, claim: str) -> None:
    """Return a job from a stopping worker; the attempt does not count."""
    for _, state in _release(session, Job.id == job_id, Job.claim == claim):
        queued = state == "queued"
        add_log_line(session, job_id, _STOPPED if queued else "Cancelled.")
        _update(session, (Job.id == job_id,), attempts=Job.attempts - 1)
        if queued:
            queue.enqueue(session, job_id)


def requeue_jobs(session: Session, *where: Condition) -> list[int]:
    """Take the matching running jobs from their dead worker; returns their ids."""
    rows = _release(session, *where)
    for job_id, state in rows:
        queued = state == "queued"
        add_log_line(session, job_id, _DIED if queued else "The worker died; cancelled, as asked.")
        if queued:
            queue.enqueue(session, job_id)
    return [job_id for job_id, _ in rows]


_STOPPED = "Stopped with the worker; it continues when a worker is there."
_DIED = "The worker died while it did this; queued again."
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


def _release(session: Session, *where: Condition) -> list[tuple[int, str]]:
    """Requeue the matching running jobs, or cancel on request; (id, state) of each."""
    to_cancel = Job.cancel_requested.is_(True)
    statement = (
        update(Job)
        .where(Job.state == "running", *where)
        .values(
            state=case((to_cancel, "cancelled"), else_="queued"),
            finished_at=case((to_cancel, now())),
            claim=None,
            heartbeat_at=None,
            seconds_left=None,
        )
        .returning(Job.id, Job.state)
    )
    return [(job_id, state) for job_id, state in session.execute(statement)]


def _update(session: Session, where: tuple[Condition, ...], **values: Any) -> bool:
    statement = update(Job).where(*where).values(**values).returning(Job.id)
    return session.scalar(statement) is not None
