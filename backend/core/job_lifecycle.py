"""Transitions of a job's row, for the web and the worker.

    queued → running → done | failed | cancelled
                     → asking → queued, by an answer

Every write is conditional on the state, and on the claim where a worker holds one.
"""

from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.clock import DatabaseTime
from backend.core.job_kinds import KINDS, Lane
from backend.core.models import Job, JobLogLine

JobState = Literal["queued", "running", "asking", "done", "failed", "cancelled"]
EndState = Literal["done", "failed", "cancelled"]
STATES = get_args(JobState)
ACTIVE = ("queued", "running")

Condition = ColumnElement[bool]


def add_job(session: Session, job: Job) -> Job:
    """Queue a new job, in its kind's lane unless it has its own. Raises KeyError: unknown kind."""
    job.lane = job.lane or KINDS[job.kind].lane
    session.add(job)
    session.flush()
    queue.enqueue(session, job.id, _lane(job.lane))
    return job


def add_log_line(session: Session, job_id: int, message: str) -> None:
    session.add(JobLogLine(job_id=job_id, message=message))


# ── the web's side ──


def cancel_job(session: Session, job_id: int, user_name: str) -> None:
    """Cancel a job that waits, or stop a running job."""
    queued = (Job.id == job_id, Job.state.in_(("queued", "asking")))
    running = (Job.id == job_id, Job.state == "running", Job.cancel_requested.is_(False))
    if _update(session, queued, state="cancelled", finished_at=DatabaseTime()):
        add_log_line(session, job_id, f"Cancelled by {user_name} while it waited.")
    elif _update(session, running, cancel_requested=True):
        add_log_line(session, job_id, f"{user_name} asked to stop it.")


def retry_job(session: Session, job_id: int, user_name: str) -> bool:
    """Requeue a failed or cancelled job with fresh attempts; False for any other state."""
    ended = (Job.id == job_id, Job.state.in_(("failed", "cancelled")))
    lane = session.scalar(update(Job).where(*ended).values(**_FRESH).returning(Job.lane))
    if lane is None:
        return False
    add_log_line(session, job_id, f"Queued again by {user_name}.")
    queue.enqueue(session, job_id, _lane(lane))
    return True


def answer_job(session: Session, job_id: int, line: str) -> bool:
    """Queue a job again whose question is answered; False for any other state."""
    asking = (Job.id == job_id, Job.state == "asking")
    lane = session.scalar(update(Job).where(*asking).values(**_FRESH).returning(Job.lane))
    if lane is None:
        return False
    add_log_line(session, job_id, line)
    queue.enqueue(session, job_id, _lane(lane))
    return True


def is_silent(seconds: float) -> tuple[Condition, ...]:
    """Conditions for running jobs without a heartbeat for so many seconds."""
    return (Job.state == "running", Job.heartbeat_at < DatabaseTime(seconds))


def count_jobs(session: Session, *where: Condition) -> int:
    return session.scalar(select(func.count()).select_from(Job).where(*where)) or 0


def count_queued(session: Session, lane: Lane) -> int:
    return count_jobs(session, Job.state == "queued", Job.lane == lane)


def resend_queued(session: Session, lane: Lane) -> int:
    """Send a message for every queued job of a lane; returns their number."""
    queued = select(Job.id).where(Job.state == "queued", Job.lane == lane).order_by(Job.id)
    job_ids = session.scalars(queued).all()
    for job_id in job_ids:
        queue.enqueue(session, job_id, lane)
    return len(job_ids)


# ── the worker's side ──


def is_held(job_id: int, claim: str) -> tuple[Condition, ...]:
    """Conditions for a running job that this claim holds."""
    return (Job.id == job_id, Job.claim == claim, Job.state == "running")


def claim_job(session: Session, job_id: int, claim: str, max_attempts: int) -> Job | None:
    """Start a queued job under this claim, or fail it after `max_attempts` without progress."""
    queued = (Job.id == job_id, Job.state == "queued")
    started = {
        "state": "running",
        "claim": claim,
        "attempts": Job.attempts + 1,
        "attempts_without_progress": Job.attempts_without_progress + 1,
        "started_at": DatabaseTime(),
        "heartbeat_at": DatabaseTime(),
        "error": None,
    }
    statement = update(Job).where(*queued, Job.attempts_without_progress < max_attempts)
    job: Job | None = session.scalar(statement.values(**started).returning(Job))
    if job is not None:
        add_log_line(session, job_id, _started(job, max_attempts))
        return job
    error = _GIVEN_UP.format(count=max_attempts)
    failed = {
        "state": "failed",
        "error": error,
        "finished_at": DatabaseTime(),
        "seconds_left": None,
    }
    if _update(session, (*queued, Job.attempts_without_progress >= max_attempts), **failed):
        add_log_line(session, job_id, error)
    return None


def find_held(session: Session, job_id: int, claim: str) -> Job | None:
    return session.scalar(select(Job).where(*is_held(job_id, claim)))


def note_progress(session: Session, job_id: int, claim: str) -> None:
    """Note that a repetition would start from here: only attempts without progress count."""
    _update(session, is_held(job_id, claim), attempts_without_progress=0)


def write_heartbeat(session: Session, job_id: int, claim: str, **values: Any) -> bool | None:
    """Write the heartbeat and values; returns `cancel_requested`, or None for a lost claim."""
    statement = (
        update(Job).where(*is_held(job_id, claim)).values(heartbeat_at=DatabaseTime(), **values)
    )
    return session.scalar(statement.returning(Job.cancel_requested))


def end_job(
    session: Session, job_id: int, claim: str, state: EndState, line: str, **values: Any
) -> bool:
    """End a claimed job, with a last log line; False for a lost claim.

    A job that fails while it is being cancelled is cancelled.
    """
    ended = {"claim": None, "finished_at": DatabaseTime(), "seconds_left": None}
    if state == "failed":
        stopped = (*is_held(job_id, claim), Job.cancel_requested.is_(True))
        if _update(session, stopped, state="cancelled", **ended):
            add_log_line(session, job_id, "Cancelled.")
            return True
    if not _update(session, is_held(job_id, claim), state=state, **ended, **values):
        return False
    add_log_line(session, job_id, line)
    return True


def was_ended_by(session: Session, job: Job) -> bool:
    """Return True if this attempt's end is in the database. job: as claimed."""
    same = (Job.id == job.id, Job.attempts == job.attempts, Job.started_at == job.started_at)
    return count_jobs(session, *same, Job.state == "done") > 0


def ask_job(session: Session, job_id: int, claim: str, question: str) -> bool:
    """Stop a claimed job at a question, without a worker; False for a lost claim."""
    asking = {"state": "asking", "claim": None, "seconds_left": None, "progress_message": ""}
    if not _update(session, is_held(job_id, claim), **asking):
        return False
    add_log_line(session, job_id, f"Asks: {question}")
    return True


def interrupt_job(session: Session, job_id: int, claim: str, line: str) -> bool:
    """Return a job to the queue, with a log line; the attempt does not count.

    False for a lost claim.
    """
    rows = _release(session, Job.id == job_id, Job.claim == claim)
    for _, state, lane in rows:
        queued = state == "queued"
        add_log_line(session, job_id, line if queued else "Cancelled.")
        uncount_attempt(session, job_id)
        if queued:
            queue.enqueue(session, job_id, lane)
    return bool(rows)


def uncount_attempt(session: Session, job_id: int) -> None:
    """Take back an attempt that neither failed nor died."""
    fruitless = Job.attempts_without_progress
    values = {
        "attempts": Job.attempts - 1,
        "attempts_without_progress": case((fruitless > 0, fruitless - 1), else_=0),
    }
    _update(session, (Job.id == job_id, Job.attempts > 0), **values)


def requeue_jobs(session: Session, *where: Condition) -> list[int]:
    """Take the matching running jobs from their dead worker; returns their ids."""
    rows = _release(session, *where)
    for job_id, state, lane in rows:
        queued = state == "queued"
        add_log_line(session, job_id, _DIED if queued else "The worker died; cancelled, as asked.")
        if queued:
            queue.enqueue(session, job_id, lane)
    return [job_id for job_id, _, _ in rows]


_DIED = "The worker died while it did this; queued again."
_GIVEN_UP = (
    "Given up after {count} attempts in which it got no further: each time the worker died or fell "
    "silent, most often for lack of memory. The worker's own log may say why."
)
_FRESH: dict[str, Any] = {
    "state": "queued",
    "attempts": 0,
    "attempts_without_progress": 0,
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


def _started(job: Job, max_attempts: int) -> str:
    if job.attempts == 1:
        return "Started."
    fruitless = job.attempts_without_progress
    if fruitless == 1:
        return f"Started again (attempt {job.attempts})."
    return (
        f"Started again (attempt {job.attempts}, number {fruitless} of at most {max_attempts} "
        "without progress)."
    )


def _lane(name: str) -> Lane:
    return "quick" if name == "quick" else "long"


def _release(session: Session, *where: Condition) -> list[tuple[int, str, Lane]]:
    """Requeue the matching running jobs, or cancel on request; (id, state, lane) of each."""
    to_cancel = Job.cancel_requested.is_(True)
    statement = (
        update(Job)
        .where(Job.state == "running", *where)
        .values(
            state=case((to_cancel, "cancelled"), else_="queued"),
            finished_at=case((to_cancel, DatabaseTime())),
            claim=None,
            heartbeat_at=None,
            seconds_left=None,
        )
        .returning(Job.id, Job.state, Job.lane)
    )
    return [(job_id, state, _lane(lane)) for job_id, state, lane in session.execute(statement)]


def _update(session: Session, where: tuple[Condition, ...], **values: Any) -> bool:
    statement = update(Job).where(*where).values(**values).returning(Job.id)
    return session.scalar(statement) is not None
