"""Sweep: resend queued jobs, and requeue jobs whose worker died."""

import logging
import threading
import time
from datetime import timedelta

from backend.core import job_lifecycle, queue
from backend.core.db import Database
from backend.core.models import now
from backend.core.settings import Settings

logger = logging.getLogger(__name__)


def sweep(database: Database, heartbeat_timeout_seconds: float) -> None:
    """Sweep once."""
    expire(database, heartbeat_timeout_seconds)
    send_again(database)


def expire(database: Database, heartbeat_timeout_seconds: float) -> list[int]:
    """Requeue running jobs with a silent worker; returns their ids."""
    silent = job_lifecycle.is_silent(now() - timedelta(seconds=heartbeat_timeout_seconds))
    # Read first: SQLite's write lock blocks every writer.
    with database.transaction(write=False) as session:
        if not job_lifecycle.count_jobs(session, *silent):
            return []
    with database.transaction() as session:
        return job_lifecycle.requeue_jobs(session, *silent)


def send_again(database: Database) -> int:
    """Resend queued jobs if the broker holds fewer messages; returns their number.

    Spare messages are harmless.
    """
    with database.transaction(write=False) as session:
        if not job_lifecycle.count_queued(session):
            return 0
    messages = queue.count_messages()
    # After the broker's count: a job queued in between is at worst sent twice.
    with database.transaction(write=False) as session:
        if messages >= job_lifecycle.count_queued(session):
            return 0
        return job_lifecycle.resend_queued(session)


class Sweep:
    """Thread that sweeps every `sweep_seconds` and survives outages."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._is_failing = False
        self._last = time.time()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, waiting up to two seconds."""
        self._stopped.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._round()
            self._stopped.wait(self._settings.sweep_seconds)

    def _round(self) -> None:
        timeout = self._settings.heartbeat_timeout_seconds
        # After sleep every heartbeat looks dead; let workers beat first.
        slept = time.time() - self._last > timeout + self._settings.sweep_seconds
        self._last = time.time()
        try:
            if slept:
                send_again(self._database)
            else:
                sweep(self._database, timeout)
            self._is_failing = False
        except Exception as error:
            if not self._is_failing:  # once per outage
                logger.warning("The sweep could not do its round and will try again: %s", error)
            self._is_failing = True
