"""Outages of the database: a worker waits for it, then goes on."""

import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from backend.core.db import Database
from worker.stopping import JobInterrupted

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A worker beats again well before the sweep expects it to.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
LONGEST_WAIT = 1800.0
# PostgreSQL's classes of errors: connection exception, shutdown.
LOST_STATES = ("08", "57P")
# The same statement works later. Others, such as a missing table, never will.
SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL")


class DatabaseAway(JobInterrupted):
    """The database was away for longer than this process can wait."""


class PatientDatabase(Database):
    """A database whose transactions wait for it before they begin.

    Args:
        database: to wait for.
        stopping: ends the waiting.
        patience: seconds to wait at most, for each outage.
    """

    def __init__(self, database: Database, stopping: Event, patience: float = LONGEST_WAIT) -> None:
        self.engine = database.engine
        self._database = database
        self._stopping = stopping
        self._patience = patience

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Session]:
        """As Database's, once it can begin. Raises DatabaseAway."""
        waiting = _Waiting(self._stopping, self._patience)
        with ExitStack() as stack:
            while True:
                try:
                    opened = self._database.transaction(write=write)
                    session = stack.enter_context(opened)
                    break
                except DBAPIError as error:
                    waiting.pause(error)
            waiting.end()
            yield session

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction, again if the connection breaks. Raises DatabaseAway.

        A transaction that breaks at its commit may be in the database: `work` must be repeatable.
        """
        waiting = _Waiting(self._stopping, self._patience)
        while True:
            try:
                with self.transaction() as session:
                    result = work(session)
            except DBAPIError as error:
                waiting.pause(error)
            else:
                waiting.end()
                return result


class _Waiting:
    """Pauses of growing length; a log line at an outage's beginning and at its end."""

    def __init__(self, stopping: Event, patience: float) -> None:
        self._stopping = stopping
        self._patience = patience
        self._began: float | None = None
        self._pause = FIRST_PAUSE

    def pause(self, error: DBAPIError) -> None:
        """Pause; raise DatabaseAway if that was too long, and any error that is no outage."""
        if not is_outage(error):
            raise error
        if self._began is None:
            self._began = time.monotonic()
            logger.warning("The database is away; waiting for it (%s)", first_line(error))
        waited = time.monotonic() - self._began
        if waited + self._pause > self._patience or self._stopping.wait(self._pause):
            raise DatabaseAway(f"The database was away for {waited:.0f} s.") from error
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def end(self) -> None:
        if self._began is not None:
            seconds = time.monotonic() - self._began
            logger.warning("The database is back after %.1f s; going on", seconds)


def is_outage(error: BaseException) -> bool:
    """Return True if the database is away or busy, so that the same works later."""
    if not isinstance(error, DBAPIError) or is_disk_full(error):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return str(getattr(error.orig, "sqlite_errorname", "")).startswith(SQLITE_OUTAGES)
    return isinstance(error, OperationalError)


def is_lost(error: BaseException) -> bool:
    """Return True if the connection to the database broke."""
    if not isinstance(error, DBAPIError) or not is_outage(error):
        return False
    if error.connection_invalidated:
        return True
    # At a shutdown the server's goodbye arrives before the connection is seen to be closed.
    return str(getattr(error.orig, "sqlstate", None)).startswith(LOST_STATES)


def is_disk_full(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(cause) or "No space left on device" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def first_line(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return str(cause).strip().partition("\n")[0][:200] or type(cause).__name__
