"""Finds what messages and workers lost: queued jobs are sent again, jobs with a dead heartbeat are queued again."""

import logging
import threading
import time
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.core import queue
from backend.core.db import Database
from backend.core.models import Job, now
from backend.core.settings import Settings

logger = logging.getLogger(__name__)


def sweep(database: Database, heartbeat_timeout_seconds: float) -> None:
    """One round. Costs two small reads when there is nothing to mend. Raises what database or broker raise."""
    expire(database, heartbeat_timeout_seconds)
    send_again(database)


def expire(database: Database, heartbeat_timeout_seconds: float) -> list[int]:
    """Queue running jobs again whose worker has been silent for too long. Returns their ids."""
    silent = (
        Job.state == "running",
        Job.heartbeat_at < now() - timedelta(seconds=heartbeat_timeout_seconds),
    )
    # Looked for without the write lock first: on SQLite every writer would have to wait for this otherwise.
    with database.transaction(write=False) as session:
        if not session.scalar(select(func.count()).select_from(Job).where(*silent)):
            return []
    with database.transaction() as session:
        return queue.requeue(session, *silent)


def send_again(database: Database) -> int:
    """Send queued jobs again if the broker holds fewer messages than there are queued jobs. Returns how many were sent.

    A message too many is harmless (its delivery loses the claim), and there are never more than twice as many as queued jobs,
    however long one job keeps the others waiting.
    """
    with database.transaction(write=False) as session:
        if not _count_queued(session):
            return 0
    waiting = queue.waiting_messages()
    # Counted after the broker was asked: a job that was queued meanwhile is sent twice at worst, and none is overlooked.
    with database.transaction(write=False) as session:
        if waiting >= _count_queued(session):
            return 0
        queued = session.execute(
            select(Job.kind, Job.id).where(Job.state == "queued").order_by(Job.id)
        ).all()
        for kind, job_id in queued:
            queue.enqueue(session, kind, job_id)
        return len(queued)


def _count_queued(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Job).where(Job.state == "queued")) or 0


class Sweep:
    """The thread that sweeps every `sweep_seconds`, from the web's start to its end. No outage of database or broker ends it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._troubled = False
        self._last = time.time()

    def start(self) -> None:
        """Begin; the first round is at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits a moment for a round under way."""
        self._stopped.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._round()
            self._stopped.wait(self._settings.sweep_seconds)

    def _round(self) -> None:
        timeout = self._settings.heartbeat_timeout_seconds
        # After the machine slept every heartbeat looks dead; the workers get one round to beat again.
        slept = time.time() - self._last > timeout + self._settings.sweep_seconds
        self._last = time.time()
        try:
            if slept:
                send_again(self._database)
            else:
                sweep(self._database, timeout)
            self._troubled = False
        except Exception as error:
            # Said once an outage, not every few seconds.
            if not self._troubled:
                logger.warning("The sweep could not do its round and will try again: %s", error)
            self._troubled = True
