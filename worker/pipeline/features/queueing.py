"""Queue the features of a new data set; without torch, for imports."""

from sqlalchemy.orm import Session

from backend.core import catalogue, job_lifecycle
from backend.core.models import DataSet, Job, are_photographs


def queue_if_photographs(session: Session, data_set: DataSet) -> None:
    """Queue the features of a new data set whose pictures are mostly larger than 64 pixels."""
    if not are_photographs(session, data_set.id):
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
