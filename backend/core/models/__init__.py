"""All tables, by feature. No relationships: services join what they need."""

from backend.core.models.accounts import Credential, User
from backend.core.models.base import Base, BigId, UtcDateTime, now
from backend.core.models.cleansing import Cleansing
from backend.core.models.datasets import (
    SMALL_PIXELS,
    DataSet,
    Image,
    Refusal,
    Version,
    VersionChange,
    are_photographs,
    images_of,
)
from backend.core.models.installation import Installation
from backend.core.models.jobs import Discard, Job, JobLogLine
from backend.core.models.review import (
    Decision,
    Explanation,
    MapPoint,
    Review,
    ReviewPart,
    Selection,
    SelectionImage,
    Suggestion,
)
from backend.core.models.runs import Run, RunEpoch, Score, Scoring

__all__ = [
    "SMALL_PIXELS",
    "Base",
    "BigId",
    "Cleansing",
    "Credential",
    "DataSet",
    "Decision",
    "Discard",
    "Explanation",
    "Image",
    "Installation",
    "Job",
    "JobLogLine",
    "MapPoint",
    "Refusal",
    "Review",
    "ReviewPart",
    "Run",
    "RunEpoch",
    "Score",
    "Scoring",
    "Selection",
    "SelectionImage",
    "Suggestion",
    "User",
    "UtcDateTime",
    "Version",
    "VersionChange",
    "are_photographs",
    "images_of",
    "now",
]

# SQLite would reuse a deleted row's number, which addresses and folders hold.
for _table in Base.metadata.tables.values():
    if "id" in _table.primary_key.columns:
        _table.dialect_options["sqlite"]["autoincrement"] = True
