"""Thread that keeps a job's row alive and reads from it when to stop."""

import logging
import threading
from types import TracebackType
from typing import Any

from sqlalchemy.orm import Session

from backend.core import job_lifecycle
from backend.core.db import Database

logger = logging.getLogger(__name__)


class Heartbeat:
    """Runs during its `with` block; sets `lost` and `cancel_requested` from the row."""

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
        """End the thread without waiting: it may itself wait for the database."""
        self._stopped.set()

    def write(self, session: Session, **values: Any) -> None:
        cancel_requested = job_lifecycle.write_heartbeat(
            session, self._job_id, self._claim, **values
        )
        self.lost = cancel_requested is None
        self.cancel_requested = bool(cancel_requested)

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                with self._database.transaction() as session:
                    self.write(session)
            except Exception as error:  # the database may be away for a moment
                logger.warning("No heartbeat of job %s: %s", self._job_id, error)
