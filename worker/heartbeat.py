"""Thread that keeps a job's row alive, reads from it when to stop, and stops the work."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import psutil
from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.db import Database
from worker.outages import first_line
from worker.stopping import ClaimLost, JobCancelled, JobInterrupted, stopping

logger = logging.getLogger(__name__)

# Work that does not stop within these seconds is ended together with its process.
PATIENCE_SECONDS = 3.0
# Work that neither reports nor computes for so long is stuck.
STUCK_SECONDS = 600.0
IDLE_CHECK_SECONDS = 20.0
# Seconds of computing in a check that count as idle: this thread's own.
IDLE_SHARE = 0.02
INTERRUPT = signal.SIGUSR2


class Heartbeat:
    """Runs during its `with` block; sets `lost` and `cancel_requested` from the row.

    end_process: ends the job and this process where the work cannot be interrupted; it gets True
    for work that is stuck. None where the process is not the job's own.
    """

    def __init__(
        self,
        database: Database,
        job_id: int,
        claim: str,
        seconds: float,
        end_process: Callable[[bool], None] | None = None,
    ) -> None:
        self.lost = False
        self.cancel_requested = False
        self._database = database
        self._job_id = job_id
        self._claim = claim
        self._seconds = seconds
        self._end_process = end_process
        self._stopped = threading.Event()
        self._asked_at: float | None = None
        self._is_away = False
        self._is_told = False
        self._interrupts = False
        self._idle = _Idle()
        self._thread = threading.Thread(
            target=self._run, name=f"heartbeat of job {job_id}", daemon=True
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread without waiting: it may itself wait for the database."""
        self._stopped.set()

    def note_report(self) -> None:
        """Note that the work reported: it is not stuck."""
        self._idle.reset()

    def write(self, session: Session, **values: Any) -> None:
        cancel_requested = job_lifecycle.write_heartbeat(
            session, self._job_id, self._claim, **values
        )
        self.lost = cancel_requested is None
        self.cancel_requested = bool(cancel_requested)

    def stop_if_asked(self) -> None:
        """Raise ClaimLost, JobCancelled or JobInterrupted where the work must stop."""
        if self._stopped.is_set():
            return
        self._is_told = self._must_stop()
        if self.lost:
            raise ClaimLost
        if self.cancel_requested:
            raise JobCancelled
        if stopping.is_set():
            raise JobInterrupted

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Let this thread interrupt the main thread's work between two steps of Python."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(INTERRUPT, self._on_interrupt)
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False
            # Not the default, which would end the process at a late signal.
            signal.signal(INTERRUPT, _ignore)

    def _on_interrupt(self, *_: object) -> None:
        # Once: what stops may clean up.
        if self._interrupts and not self._is_told:
            self.stop_if_asked()

    def _must_stop(self) -> bool:
        return self.lost or self.cancel_requested or stopping.is_set()

    def _run(self) -> None:
        while not self._stopped.wait(min(self._seconds, 1.0)):
            self._beat()
            self._interrupt_if_asked()
            if self._end_process is not None and self._idle.is_stuck():
                logger.error(
                    "Job %s did nothing for %.0f min: it is stuck. This worker ends it and begins "
                    "again.",
                    self._job_id,
                    STUCK_SECONDS / 60,
                )
                self._end_process(True)

    def _beat(self) -> None:
        try:
            with self._database.transaction() as session:
                self.write(session)
            self._is_away = False
        except Exception as error:
            self._idle.reset()
            if not self._is_away:  # once an outage
                logger.warning("No heartbeat of job %s: %s", self._job_id, first_line(error))
            self._is_away = True

    def _interrupt_if_asked(self) -> None:
        main = threading.main_thread().ident
        if not self._must_stop() or self._stopped.is_set() or not self._interrupts or main is None:
            return
        signal.pthread_kill(main, INTERRUPT)
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        if self._end_process and time.monotonic() - self._asked_at > PATIENCE_SECONDS:
            self._end_process(False)


def _ignore(*_: object) -> None:
    """Handle a signal by doing nothing."""


class _Idle:
    """Tells how long neither a report came nor anything was computed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._since = self._checked = time.monotonic()
        self._computed: float | None = None

    def is_stuck(self) -> bool:
        clock = time.monotonic()
        if clock - self._checked < IDLE_CHECK_SECONDS:
            return False
        computed = _computed_seconds()
        before, self._computed = self._computed, computed
        elapsed, self._checked = clock - self._checked, clock
        if before is None or abs(computed - before) > IDLE_SHARE * elapsed:
            self._since = clock
        return clock - self._since > STUCK_SECONDS


def _computed_seconds() -> float:
    """Return the processor time of this process and its children."""
    own = psutil.Process()
    seconds = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return seconds
