"""Claim a job, run its pipeline function, and end or requeue it."""

import errno
import importlib
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import tenacity
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.db import Database
from backend.core.job_kinds import KINDS
from backend.core.job_lifecycle import EndState
from backend.core.models import Job
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import claims
from worker.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.25
PACE_SECONDS = 1.0  # too short for an estimate
LOG_CHARACTERS = 8_000
DISK_FULL = (
    "The disk is full. Nothing that was there before is harmed. Make room, then press “Try again”."
)
UNEXPECTED = (
    "Something unexpected went wrong ({kind}). Trying again may help; "
    "if it does not, please report it with the log."
)

# Set when this process must end; running jobs requeue at their next progress.
stopping = Event()


class JobFailed(Exception):
    """A job that cannot be done; the message says why, and how to fix it."""


class JobCancelled(Exception):
    """A user cancelled this job."""


class JobInterrupted(Exception):
    """This process must end; the job returns to the queue."""


class ClaimLost(Exception):
    """Another attempt owns the job; this attempt must write nothing."""


class JobContext:
    """A pipeline function's job: to report, log and write results."""

    def __init__(self, job: Job, database: Database, storage: Storage, settings: Settings) -> None:
        self.job_id = job.id
        self.kind = job.kind
        self.subject_id = job.subject_id
        self.payload: dict[str, Any] = job.payload
        self.database = database
        self.storage = storage
        self.settings = settings
        self.finished = False
        self.claim = job.claim or ""
        self.heartbeat = Heartbeat(database, job.id, self.claim, settings.heartbeat_seconds)
        self._last_write = 0.0
        self._pace = Pace()

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Report `done` of `total`, in any unit; writes at most four times a second.

        Call it often: a job stops here. Raises JobCancelled, JobInterrupted or ClaimLost.
        """
        self._stop_if_asked()
        clock = time.monotonic()
        seconds_left = self._pace.seconds_left(done, total, clock)
        if clock - self._last_write < PROGRESS_SECONDS:
            return
        self._last_write = clock
        self._write_progress(
            progress_done=done,
            progress_total=total,
            progress_message=message[:300],
            seconds_left=seconds_left,
        )
        self._stop_if_asked()

    def log(self, message: str) -> None:
        with self.database.transaction() as session:
            job_lifecycle.add_log_line(session, self.job_id, message[:LOG_CHARACTERS])

    @contextmanager
    def finish(self) -> Iterator[Session]:
        """Open the transaction that writes the results and ends the job. Raises ClaimLost."""
        self.heartbeat.stop()  # it would only wait for this transaction
        with self.database.transaction() as session:
            # First, to lock the row: without its claim, nothing is written.
            _end(
                session,
                self,
                "done",
                "Done.",
                progress_done=Job.progress_total,
                progress_message="",
            )
            yield session
        self.finished = True

    def _write_progress(self, **values: Any) -> None:
        try:
            with self.database.transaction() as session:
                self.heartbeat.write(session, **values)
        except OperationalError as error:
            if is_disk_full(error):
                raise
            logger.warning("Progress of job %s was not written: %s", self.job_id, error)

    def _stop_if_asked(self) -> None:
        if self.heartbeat.lost:
            raise ClaimLost
        if self.heartbeat.cancel_requested:
            raise JobCancelled
        if stopping.is_set():
            raise JobInterrupted


class Pace:
    """Estimates the time left from this attempt's pace."""

    def __init__(self) -> None:
        self._start: tuple[int, int, float] | None = None  # done, total, clock

    def seconds_left(self, done: int, total: int, clock: float) -> float | None:
        """Estimate the seconds until `done` reaches `total`, or None; a new total restarts."""
        if self._start is None or self._start[1] != total or done < self._start[0]:
            self._start = (done, total, clock)
        start_done, _, start_clock = self._start
        if done == start_done or clock - start_clock < PACE_SECONDS:
            return None
        return (clock - start_clock) / (done - start_done) * max(total - done, 0)


def perform(job_id: int, database: Database, storage: Storage, settings: Settings) -> None:
    """Claim the job and perform it; a second delivery does nothing."""
    job = claim(job_id, database, settings.max_attempts)
    if job is None:
        logger.info("Job %s is not waiting; nothing done", job_id)
        return
    context = JobContext(job, database, storage, settings)
    try:
        with context.heartbeat:
            _work(context)
    except ClaimLost:
        logger.warning("Job %s belongs to another attempt by now; this one leaves it alone", job_id)
    except OperationalError:
        # The sweep repeats jobs without a heartbeat.
        logger.exception("How job %s ended could not be written", job_id)


def claim(job_id: int, database: Database, max_attempts: int) -> Job | None:
    """Claim the job; None if it does not wait or is out of attempts."""
    with database.transaction() as session:
        return job_lifecycle.claim_job(session, job_id, claims.new(), max_attempts)


def release_dead(database: Database) -> list[int]:
    """Requeue the jobs of this machine's dead processes; returns the ids."""
    with database.transaction() as session:
        dead = claims.of_dead_processes(session)
        return job_lifecycle.requeue_jobs(session, Job.claim.in_(dead)) if dead else []


def is_disk_full(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(cause) or "No space left on device" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _work(context: JobContext) -> None:
    try:
        # Starts a worker without torch.
        module, _, function = KINDS[context.kind].pipeline.partition(":")
        getattr(importlib.import_module(module), function)(context)
        if not context.finished:
            with context.finish():
                pass
    except ClaimLost:
        raise
    except JobCancelled:
        _write_end(context, "cancelled", "Cancelled.")
    except JobInterrupted:
        with context.database.transaction() as session:
            job_lifecycle.interrupt_job(session, context.job_id, context.claim)
    except Exception as error:
        _fail(context, error)


def _fail(context: JobContext, error: Exception) -> None:
    sentence = _sentence(error)
    if sentence is None:
        logger.exception("Job %s failed", context.job_id)
        log = "".join(traceback.format_exception(error))[-LOG_CHARACTERS:]
        _write_end(context, "failed", log, error=UNEXPECTED.format(kind=type(error).__name__))
    else:
        logger.warning("Job %s failed: %s", context.job_id, sentence)
        _write_end(context, "failed", sentence, error=sentence)


def _sentence(error: Exception) -> str | None:
    # Loads torch.
    from worker.engine.errors import EngineError

    if is_disk_full(error):
        return DISK_FULL
    return str(error) if isinstance(error, (JobFailed, EngineError)) else None


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(OperationalError),
    stop=tenacity.stop_after_delay(10),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _write_end(
    context: JobContext, state: EndState, line: str, *, error: str | None = None
) -> None:
    with context.database.transaction() as session:
        _end(session, context, state, line, error=error)


def _end(session: Session, context: JobContext, state: EndState, line: str, **values: Any) -> None:
    if not job_lifecycle.end_job(session, context.job_id, context.claim, state, line, **values):
        raise ClaimLost
