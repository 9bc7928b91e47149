"""Jobs and their logs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.core.models.base import Base, BigId, now


class Job(Base):
    """Work with progress; job_lifecycle.py has its states and job_kinds.py its kinds.

    This row is the truth; a message only carries its id. `claim` names the attempt that owns a
    running job: machine, process, random part.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "heartbeat_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="queued", index=True)
    title: Mapped[str] = mapped_column(String(300))
    subject_id: Mapped[int] = mapped_column(Integer)  # in the table that the kind names
    data_set_id: Mapped[int | None] = mapped_column(
        ForeignKey("data_sets.id", ondelete="CASCADE"), index=True
    )
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    lane: Mapped[str] = mapped_column(String(10), default="long")  # job_kinds.Lane
    progress_done: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_total: Mapped[int] = mapped_column(BigInteger, default=0)
    progress_message: Mapped[str] = mapped_column(String(300), default="")
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_without_progress: Mapped[int] = mapped_column(default=0)
    seconds_left: Mapped[float | None]
    claim: Mapped[str | None] = mapped_column(String(120))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobLogLine(Base):
    __tablename__ = "job_log_lines"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(default=now)
    message: Mapped[str] = mapped_column(Text)


class Discard(Base):
    """Files of deleted rows, until they are deleted too. path: in the folder of files."""

    __tablename__ = "discards"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(String(500))
