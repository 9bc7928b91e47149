"""JSON shapes of jobs."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from backend.core.job_kinds import Lane
from backend.core.job_lifecycle import JobState


class JobOut(BaseModel):
    """A job: its task, progress and outcome."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    lane: Lane = Field(description="Quick jobs never wait behind long ones.")
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
    waiting: str | None = Field(
        None,
        description="While it is queued, in answers of /jobs: what is ahead, and how long that "
        "takes.",
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class LogLineOut(BaseModel):
    """A line of a job's log."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    message: str
