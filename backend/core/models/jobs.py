"""Queued work and its log."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    case,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.dml import ReturningUpdate

from backend.core.models.base import Base, BigId, now


class Job(Base):
    """Queued work with progress. This row is the truth; a message only carries its id.

    State: queued → running → done | failed | cancelled. `claim` names the attempt that owns the running row: machine, process, random part.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "heartbeat_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    title: Mapped[str] = mapped_column(String(300))
    # The one row that this job works for: a data set (import), run (train, member), review (score, explain, map), cleansing (cleanse).
    subject_id: Mapped[int] = mapped_column(Integer)
    data_set_id: Mapped[int | None] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress_done: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_total: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_message: Mapped[str] = mapped_column(String(300), default="")
    attempts: Mapped[int] = mapped_column(default=0)
    seconds_left: Mapped[float | None]  # as the worker estimates it from its own pace
    claim: Mapped[str | None] = mapped_column(String(120))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobLogLine(Base):
    """A line that a person can read."""

    __tablename__ = "job_log_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(default=now)
    message: Mapped[str] = mapped_column(Text)


def release_jobs(*where: ColumnElement[bool]) -> ReturningUpdate[int, str, str]:
    """Take running jobs from their worker: back into the queue, or cancelled where somebody asked for that. Returns (id, kind, state)."""
    stopped = Job.cancel_requested.is_(True)
    return (
        update(Job)
        .where(Job.state == "running", *where)
        .values(
            state=case((stopped, "cancelled"), else_="queued"),
            finished_at=case((stopped, now())),
            claim=None,
            heartbeat_at=None,
            seconds_left=None,
        )
        .returning(Job.id, Job.kind, Job.state)
    )
