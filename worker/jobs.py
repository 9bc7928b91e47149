"""Claim a job, run its pipeline function, and end or requeue it."""

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
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
from worker.outages import (
    DatabaseAway,
    PatientDatabase,
    first_line,
    is_disk_full,
    is_lost,
    is_outage,
)
from worker.progress import Bar, Pace
from worker.stopping import ClaimLost, JobCancelled, JobFailed, JobInterrupted, stopping

__all__ = [
    "ClaimLost",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobInterrupted",
    "claim",
    "is_disk_full",
    "perform",
    "release_dead",
    "stopping",
]
logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.25
# A stopping process cannot wait long for the database.
LAST_SECONDS = 3.0
LOG_CHARACTERS = 8_000
DISK_FULL = (
    "The disk is full. Nothing that was there before is harmed. Make room, then press “Try again”."
)
OUT_OF_MEMORY = (
    "The memory was not enough. End other programs on the worker's machine, or give it more; for "
    "a training, smaller images or a smaller batch need less. Then try again."
)
UNEXPECTED = (
    "Something unexpected went wrong ({kind}). Trying again may help; if it does not, please "
    "report it with the worker's log of that moment."
)

WITH_WORKER = "Stopped with the worker; it continues when a worker is there."
WITH_DATABASE = "The database went away in the middle of it; it continues from its last safe point."

# Replaces this process by a new worker; None where it does not belong to a worker.
begin_again: Callable[[], None] | None = None


class JobContext:
    """A pipeline function's job: to report, log and write results.

    database: transactions wait for it while it is away; those of plain_database do not.
    """

    def __init__(self, job: Job, database: Database, storage: Storage, settings: Settings) -> None:
        self.job_id = job.id
        self.kind = job.kind
        self.subject_id = job.subject_id
        self.payload: dict[str, Any] = job.payload
        self.database = PatientDatabase(database, stopping)
        self.storage = storage
        self.settings = settings
        self.finished = False
        self.claim = job.claim or ""
        end_process = None if begin_again is None else self._end_process
        self.heartbeat = Heartbeat(
            database, job.id, self.claim, settings.heartbeat_seconds, end_process
        )
        self._job = job
        self.plain_database = database
        self._last_write = 0.0
        self._is_away = False
        self._bar = Bar()
        self._pace = Pace()

    def phase(self, start: float, end: float) -> None:
        """Begin a phase of the job, which takes its bar from `start` to `end`, both of 1."""
        self._bar.begin_phase(start, end)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Report `done` of the phase's `total`, in any unit; writes at most four times a second.

        Call it often: a job stops here. Raises JobCancelled, JobInterrupted or ClaimLost.
        """
        self.heartbeat.stop_if_asked()
        self.heartbeat.note_report()
        done, total = self._bar.place(done, total)
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
        self.heartbeat.stop_if_asked()

    def note_safe_point(self) -> None:
        """Note that a repetition would start from here: the attempts count from 0 again."""
        self.database.write(
            lambda session: job_lifecycle.note_progress(session, self.job_id, self.claim)
        )

    def log(self, *messages: str) -> None:
        """Add lines to the job's log, in a single transaction."""

        def add(session: Session) -> None:
            for message in messages:
                job_lifecycle.add_log_line(session, self.job_id, message[:LOG_CHARACTERS])

        self.database.write(add)

    @contextmanager
    def finish(self) -> Iterator[Session]:
        """Open the transaction that writes the results and ends the job. Raises ClaimLost."""
        self.heartbeat.stop()  # it would only wait for this transaction
        try:
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
        except DBAPIError as error:
            # A commit that broke off may have arrived.
            if not is_outage(error) or not self._is_done():
                raise
        self.finished = True

    def _is_done(self) -> bool:
        return self.database.write(lambda session: job_lifecycle.was_ended_by(session, self._job))

    @contextmanager
    def ask(self, question: str) -> Iterator[Session]:
        """Open the transaction that stops the job at a question. Raises ClaimLost."""
        self.heartbeat.stop()
        with self.database.transaction() as session:
            if not job_lifecycle.ask_job(session, self.job_id, self.claim, question):
                raise ClaimLost
            yield session
        self.finished = True

    def _write_progress(self, **values: Any) -> None:
        try:
            with self.plain_database.transaction() as session:
                self.heartbeat.write(session, **values)
            self._is_away = False
        except DBAPIError as error:
            if not is_outage(error):
                raise
            if not self._is_away:  # once an outage
                logger.info("No progress of job %s is written: %s", self.job_id, first_line(error))
            self._is_away = True

    def _end_process(self, is_stuck: bool) -> None:
        """End the job and this process, where its work cannot be interrupted."""
        assert begin_again is not None
        try:
            with self.plain_database.transaction() as session:
                if is_stuck:
                    held = job_lifecycle.is_held(self.job_id, self.claim)
                    job_lifecycle.requeue_jobs(session, *held)
                elif not self.heartbeat.lost:
                    job_lifecycle.interrupt_job(session, self.job_id, self.claim, WITH_WORKER)
        except SQLAlchemyError:
            self.storage.note_given_back(self.job_id, self.claim)
        logger.warning("Job %s could not be interrupted; its process ends", self.job_id)
        begin_again()


def perform(job_id: int, database: Database, storage: Storage, settings: Settings) -> None:
    """Claim the job and perform it; a second delivery does nothing."""
    try:
        give_back_noted(PatientDatabase(database, stopping), storage)
        job = claim(job_id, database, settings.max_attempts)
    except DatabaseAway:
        return  # the sweep sends it again
    if job is None:
        logger.debug("Job %s is not waiting; nothing done", job_id)
        return
    logger.info("Job %s (%s) started, attempt %s", job_id, job.title, job.attempts)
    began = time.monotonic()
    context = JobContext(job, database, storage, settings)
    with context.heartbeat:
        ending = _ended(context)
    logger.info("Job %s (%s) %s after %.1f s", job_id, job.title, ending, time.monotonic() - began)


def claim(job_id: int, database: Database, max_attempts: int) -> Job | None:
    """Claim the job; None if it does not wait or is out of attempts. Raises DatabaseAway."""
    name = claims.new()

    def claimed(session: Session) -> Job | None:
        return job_lifecycle.find_held(session, job_id, name) or job_lifecycle.claim_job(
            session, job_id, name, max_attempts
        )

    return PatientDatabase(database, stopping).write(claimed)


def release_dead(database: Database) -> list[int]:
    """Requeue the jobs of this machine's dead processes; returns the ids."""
    with database.transaction() as session:
        dead = claims.of_dead_processes(session)
        return job_lifecycle.requeue_jobs(session, Job.claim.in_(dead)) if dead else []


def give_back_noted(database: Database, storage: Storage) -> None:
    """Give back the jobs that could not be given back while the database was away."""
    for job_id, noted in storage.take_given_back():
        with database.transaction() as session:
            if not job_lifecycle.interrupt_job(session, job_id, noted, WITH_DATABASE):
                # The sweep has queued it; the attempt still does not count.
                job_lifecycle.uncount_attempt(session, job_id)


def _ended(context: JobContext) -> str:
    """Work, and end the job; returns how, for the worker's log."""
    try:
        try:
            with context.heartbeat.interrupts():
                _work(context)
        except JobCancelled:
            _write_end(context, "cancelled", "Cancelled.")
            return "was cancelled"
        except (ClaimLost, JobInterrupted):
            raise
        except Exception as error:
            if is_lost(error):
                raise JobInterrupted from error
            return _fail(context, error)
        return "done"
    except JobInterrupted:
        _give_back(context)
        return "was interrupted and returned to the queue"
    except ClaimLost:
        return "belongs to another attempt by now; this attempt ended"


def is_out_of_memory(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        # torch raises errors of its own, for a CPU a plain RuntimeError.
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _work(context: JobContext) -> None:
    # Starts a worker without torch.
    module, _, function = KINDS[context.kind].pipeline.partition(":")
    getattr(importlib.import_module(module), function)(context)
    if not context.finished:
        with context.finish():
            pass


def _give_back(context: JobContext) -> None:
    """Return the job to the queue; a note does it later where the database is away."""
    context.heartbeat.stop()
    patience = LAST_SECONDS if stopping.is_set() else context.settings.heartbeat_timeout_seconds
    line = WITH_WORKER if stopping.is_set() else WITH_DATABASE
    database = PatientDatabase(context.plain_database, Event(), patience)
    try:
        database.write(
            lambda session: job_lifecycle.interrupt_job(
                session, context.job_id, context.claim, line
            )
        )
    except DatabaseAway:
        context.storage.note_given_back(context.job_id, context.claim)


def _fail(context: JobContext, error: Exception) -> str:
    sentence = _sentence(error)
    if sentence is None:
        logger.error("Job %s failed unexpectedly", context.job_id, exc_info=error)
        # The traceback names the server's paths, so it stays in the worker's log.
        sentence = UNEXPECTED.format(kind=type(error).__name__)
    _write_end(context, "failed", sentence, error=sentence)
    return f"failed: {sentence}"


def _sentence(error: Exception) -> str | None:
    # Loads torch.
    from worker.engine.errors import EngineError

    if is_disk_full(error):
        return DISK_FULL
    if isinstance(error, (JobFailed, EngineError)):
        return str(error)
    return OUT_OF_MEMORY if is_out_of_memory(error) else None


def _write_end(
    context: JobContext, state: EndState, line: str, *, error: str | None = None
) -> None:
    context.database.write(lambda session: _end(session, context, state, line, error=error))


def _end(session: Session, context: JobContext, state: EndState, line: str, **values: Any) -> None:
    if not job_lifecycle.end_job(session, context.job_id, context.claim, state, line, **values):
        raise ClaimLost
