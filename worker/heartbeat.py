"""The thread that says every few seconds that a job's worker is alive, and that hears of a cancel or a lost claim."""

import logging
import threading
from types import TracebackType
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.models import Job, now

logger = logging.getLogger(__name__)


class Heartbeat:
    """Runs while its `with` block does. `lost` and `cancel_requested` turn true once the row says so."""

    def __init__(self, database: Database, job_id: int, claim: str, seconds: float) -> None:
        self.lost = False
        self.cancel_requested = False
        self._database = database
        self._job_id = job_id
        self._claim = claim
        self._seconds = seconds
        self._stopped = threading.Event()
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
        """End the thread. It may be waiting for the database, so nobody waits for it."""
        self._stopped.set()

    def write(self, session: Session, **values: Any) -> None:
        """Write to the job's row, as long as the claim holds, and note what the row says."""
        mine = (Job.id == self._job_id, Job.claim == self._claim, Job.state == "running")
        statement = (
            update(Job)
            .where(*mine)
            .values(heartbeat_at=now(), **values)
            .returning(Job.cancel_requested)
        )
        cancel_requested = session.scalar(statement)
        self.lost = cancel_requested is None
        self.cancel_requested = bool(cancel_requested)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                with self._database.transaction() as session:
                    self.write(session)
            except Exception as error:  # a database that is away for a moment must not end the work
                logger.warning("No heartbeat of job %s: %s", self._job_id, error)
