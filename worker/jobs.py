"""Claim a job, do its work, and finish, fail or give it back. The row in `jobs` decides; every write here is guarded by the claim."""

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
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.db import Database
from backend.core.models import Job, JobLogLine, now, release_jobs
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import claims
from worker.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

# Job kind → the function that does the work, imported when first needed: a worker is up before torch is loaded.
PIPELINES = {
    "import": "worker.pipeline.imports.job:import_data_set",
    "train": "worker.pipeline.train:train_run",
    "score": "worker.pipeline.scoring.job:score_run",
    "explain": "worker.pipeline.scoring.explanations:explain",
    "map": "worker.pipeline.scoring.umap_layout:arrange",
    "member": "worker.pipeline.scoring.averages:score_member",
    "cleanse": "worker.pipeline.cleansing.job:cleanse",
}
PROGRESS_SECONDS = 0.25
PACE_SECONDS = 1.0  # shorter measurements are no base for an estimate
LOG_CHARACTERS = 8_000
DISK_FULL = (
    "The disk is full. Nothing that was there before is harmed. Make room, then press “Try again”."
)
UNEXPECTED = "Something unexpected went wrong ({kind}). Trying again may help; if it does not, please report it with the log."

# Set when this process is asked to end: running jobs go back into the queue at their next progress call.
stopping = Event()


class JobFailed(Exception):
    """The job cannot be done. The message is a sentence for the person: what happened and how to mend it."""


class JobCancelled(Exception):
    """Somebody asked for this job to stop."""


class JobInterrupted(Exception):
    """This process is asked to end; the job goes back into the queue."""


class ClaimLost(Exception):
    """The job belongs to another attempt by now; whatever this one did must not count."""


class JobContext:
    """What a pipeline function is handed: its job, and the only ways to report, to log and to write results."""

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
        self._written = 0.0
        self._pace = Pace()

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Say how far the work is: `done` of `total`, in any unit. Call it often; at most four calls a second reach the database.

        This is also where a job stops: raises JobCancelled, JobInterrupted or ClaimLost.
        """
        self._stop_if_asked()
        clock = time.monotonic()
        seconds_left = self._pace.seconds_left(done, total, clock)
        if clock - self._written < PROGRESS_SECONDS:
            return
        self._written = clock
        self._write_progress(
            progress_done=done,
            progress_total=total,
            progress_message=message[:300],
            seconds_left=seconds_left,
        )
        self._stop_if_asked()

    def log(self, message: str) -> None:
        """Add a line to the log that people read on the job's page."""
        with self.database.transaction() as session:
            session.add(JobLogLine(job_id=self.job_id, message=message[:LOG_CHARACTERS]))

    @contextmanager
    def finish(self) -> Iterator[Session]:
        """The one transaction that writes the results and marks the job done: both or neither. Raises ClaimLost with nothing written."""
        self.heartbeat.stop()  # it would only wait for this transaction
        with self.database.transaction() as session:
            # First, so that the row is locked until the results are in, and an attempt without its claim writes nothing at all.
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
            # A database that is away for a moment must not end the work; finish() will tell if it stays away.
            logger.warning("Progress of job %s was not written: %s", self.job_id, error)

    def _stop_if_asked(self) -> None:
        if self.heartbeat.lost:
            raise ClaimLost
        if self.heartbeat.cancel_requested:
            raise JobCancelled
        if stopping.is_set():
            raise JobInterrupted


class Pace:
    """Estimates the time left from this attempt's own pace: what an earlier attempt did is no measure."""

    def __init__(self) -> None:
        self._first: tuple[int, int, float] | None = None  # done, total, clock

    def seconds_left(self, done: int, total: int, clock: float) -> float | None:
        """Seconds until `done` reaches `total`, or None while there is nothing to judge by. A new total measures anew."""
        if self._first is None or self._first[1] != total or done < self._first[0]:
            self._first = (done, total, clock)
        first, _, began = self._first
        if done == first or clock - began < PACE_SECONDS:
            return None
        return (clock - began) / (done - first) * max(total - done, 0)


def perform(job_id: int, database: Database, storage: Storage, settings: Settings) -> None:
    """Claim the job and do its work; how it ended stands in the row. A second delivery loses the claim and does nothing."""
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
        # Without a heartbeat the row is found by the sweep, and the work is done again.
        logger.exception("How job %s ended could not be written", job_id)


def claim(job_id: int, database: Database, max_attempts: int) -> Job | None:
    """Own the job if it is queued and has attempts left, else None. A job that is out of attempts is given up here."""
    queued = (Job.id == job_id, Job.state == "queued")
    with database.transaction() as session:
        started = {
            "state": "running",
            "claim": claims.new(),
            "attempts": Job.attempts + 1,
            "started_at": now(),
            "heartbeat_at": now(),
            "error": None,
        }
        job: Job | None = session.scalar(
            update(Job).where(*queued, Job.attempts < max_attempts).values(**started).returning(Job)
        )
        if job is not None:
            again = f" (attempt {job.attempts} of {max_attempts})" if job.attempts > 1 else ""
            session.add(JobLogLine(job_id=job_id, message=f"Started{again}."))
            return job
        sentence = f"Given up after {max_attempts} attempts: the worker died each time. The worker's own output may say why."
        given_up = {
            "state": "failed",
            "error": sentence,
            "finished_at": now(),
            "seconds_left": None,
        }
        if session.scalar(
            update(Job)
            .where(*queued, Job.attempts >= max_attempts)
            .values(**given_up)
            .returning(Job.id)
        ):
            session.add(JobLogLine(job_id=job_id, message=sentence))
        return None


def release_dead(database: Database) -> list[int]:
    """Queue again what a dead process of this very machine holds. For a worker's start: nobody then waits for the heartbeat to time out."""
    with database.transaction() as session:
        dead = claims.of_dead_processes(session)
        return queue.requeue(session, Job.claim.in_(dead)) if dead else []


def is_disk_full(error: BaseException) -> bool:
    """Whether this error, or one that led to it, says that the disk is full."""
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
        module, _, function = PIPELINES[context.kind].partition(":")
        getattr(importlib.import_module(module), function)(context)
        if not context.finished:
            with context.finish():
                pass
    except ClaimLost:
        raise
    except JobCancelled:
        _write_end(context, "cancelled", "Cancelled.")
    except JobInterrupted:
        _interrupt(context)
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
    # Imported here: the engine loads torch, and whoever raised its error has loaded it already.
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
def _write_end(context: JobContext, state: str, line: str, *, error: str | None = None) -> None:
    with context.database.transaction() as session:
        _end(session, context, state, line, error=error)


def _end(session: Session, context: JobContext, state: str, line: str, **values: Any) -> None:
    mine = (Job.id == context.job_id, Job.claim == context.claim, Job.state == "running")
    ended = {"state": state, "claim": None, "finished_at": now(), "seconds_left": None, **values}
    if session.scalar(update(Job).where(*mine).values(**ended).returning(Job.id)) is None:
        raise ClaimLost
    session.add(JobLogLine(job_id=context.job_id, message=line))


def _interrupt(context: JobContext) -> None:
    with context.database.transaction() as session:
        mine = (Job.id == context.job_id, Job.claim == context.claim)
        for job_id, kind, state in session.execute(release_jobs(*mine)).all():
            line = (
                "Stopped with the worker; it goes on when a worker is there."
                if state == "queued"
                else "Cancelled."
            )
            session.add(JobLogLine(job_id=job_id, message=line))
            # Being stopped is no failure of the job's.
            session.execute(update(Job).where(Job.id == job_id).values(attempts=Job.attempts - 1))
            if state == "queued":
                queue.enqueue(session, kind, job_id)
