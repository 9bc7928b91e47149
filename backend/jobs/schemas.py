"""The shapes of jobs in JSON."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from backend.core.job_lifecycle import JobState


class JobOut(BaseModel):
    """A job: what it does, how far it is, how it ended."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    state: JobState
    title: str
    subject_id: int
    data_set_id: int | None
    progress_done: int
    progress_total: int
    progress_message: str
    seconds_left: float | None
    attempts: int
    cancel_requested: bool
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(BaseModel):
    """Some jobs, newest first, and the cursor of the next page."""

    items: list[JobOut]
    next: str | None


class LogLineOut(BaseModel):
    """A line of a job's log."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    message: str


class LogPage(BaseModel):
    """Some lines in order, and the cursor of the next page."""

    items: list[LogLineOut]
    next: str | None
