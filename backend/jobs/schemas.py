"""JSON shapes of jobs."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from backend.core.job_lifecycle import JobState


class JobOut(BaseModel):
    """A job: its task, progress and outcome."""

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


class LogLineOut(BaseModel):
    """A line of a job's log."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    message: str
