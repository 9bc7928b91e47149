"""Sweep: resend queued jobs, and requeue jobs whose worker died."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from backend.core import job_lifecycle, queue
from backend.core.db import Database
from backend.core.job_kinds import Lane
from backend.core.settings import Settings

logger = logging.getLogger(__name__)

CHORE_SECONDS = 600.0


def sweep(database: Database, heartbeat_timeout_seconds: float) -> None:
    """Sweep once."""
    expire(database, heartbeat_timeout_seconds)
    send_again(database)


def expire(database: Database, heartbeat_timeout_seconds: float) -> list[int]:
    """Requeue running jobs with a silent worker; returns their ids."""
    silent = job_lifecycle.is_silent(heartbeat_timeout_seconds)
    # Read first: SQLite's write lock blocks every writer.
    with database.transaction(write=False) as session:
        if not job_lifecycle.count_jobs(session, *silent):
            return []
    with database.transaction() as session:
        return job_lifecycle.requeue_jobs(session, *silent)


def send_again(database: Database) -> int:
    """Resend a lane's queued jobs if the broker holds fewer messages; returns their number.

    Spare messages are harmless.
    """
    return sum(_send_lane_again(database, lane) for lane in queue.QUEUES)


def _send_lane_again(database: Database, lane: Lane) -> int:
    with database.transaction(write=False) as session:
        if not job_lifecycle.count_queued(session, lane):
            return 0
    messages = queue.count_messages([lane])
    # After the broker's count: a job queued in between is at worst sent twice.
    with database.transaction(write=False) as session:
        if messages >= job_lifecycle.count_queued(session, lane):
            return 0
        return job_lifecycle.resend_queued(session, lane)


class Sweep:
    """Thread that sweeps every `sweep_seconds` and survives outages.

    chores: done at the start and then every CHORE_SECONDS.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        chores: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._chores = chores
        self._chores_due = time.monotonic()
        self._database = database
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._is_failing = False
        self._last = time.time()
        self._give_time()

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

    def _do_chores(self) -> None:
        if time.monotonic() < self._chores_due:
            return
        self._chores_due = time.monotonic() + CHORE_SECONDS
        for chore in self._chores:
            chore()

    def _give_time(self) -> None:
        """Let workers beat first: after a start, a sleep or an outage all heartbeats are old."""
        self._patient_until = time.monotonic() + self._settings.heartbeat_timeout_seconds

    def _round(self) -> None:
        timeout = self._settings.heartbeat_timeout_seconds
        slept = time.time() - self._last > timeout + self._settings.sweep_seconds
        self._last = time.time()
        if slept:
            self._give_time()
        try:
            if time.monotonic() >= self._patient_until:
                expire(self._database, timeout)
            send_again(self._database)
            self._do_chores()
            self._is_failing = False
        except Exception as error:
            if isinstance(error, SQLAlchemyError):
                self._give_time()
            if not self._is_failing:  # once per outage
                logger.warning("The sweep could not do its round and will try again: %s", error)
            self._is_failing = True
