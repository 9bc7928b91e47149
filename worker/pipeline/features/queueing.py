"""Queue the features of a new data set; without torch, for imports."""

import statistics
from collections.abc import Sequence

from sqlalchemy.orm import Session

from backend.core import catalogue, job_lifecycle
from backend.core.models import DataSet, Job
from backend.core.models.datasets import SMALL_PIXELS


def are_photographs(sides: Sequence[int]) -> bool:
    """True where most pictures are larger than 64 pixels: a backbone knows such pictures.

    sides: the larger side of each original.
    """
    return bool(sides) and statistics.median(sides) > SMALL_PIXELS


def queue_if_photographs(session: Session, data_set: DataSet, sides: Sequence[int]) -> None:
    """Queue the features of a new data set whose pictures are mostly larger than 64 pixels.

    sides: the larger side of each original.
    """
    if not are_photographs(sides):
        return
    job_lifecycle.add_job(
        session,
        Job(
            kind="features",
            title=f"Work out features of {data_set.name}"[:300],
            subject_id=data_set.id,
            data_set_id=data_set.id,
            payload={"backbone": catalogue.DEFAULT_BACKBONE},
            created_by=data_set.created_by,
        ),
    )
