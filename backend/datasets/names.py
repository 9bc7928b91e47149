"""Names of data sets: each is given once."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Job

LONGEST = 200
# A job's title names its data set behind one of these.
TITLES = (
    "Import ",
    "Work out features of ",
    "Train on ",
    "Find harmful images in ",
    "Score a training on ",
    "Look at why, for ",
    "Arrange the map of ",
    "Clean ",
)


def is_taken(session: Session, name: str, other_than: DataSet | None = None) -> bool:
    """Tell if another data set has this name, in whatever case."""
    taken = session.execute(select(DataSet.id, DataSet.name))
    own = other_than.id if other_than else None
    return any(row.name.casefold() == name.casefold() and row.id != own for row in taken)


def make_unique(session: Session, name: str) -> str:
    """Return the name, with a number behind it where it is taken: "clothing 2"."""
    taken = {known.casefold() for known in session.scalars(select(DataSet.name))}
    number, unique = 1, name
    while unique.casefold() in taken:
        number += 1
        end = f" {number}"
        unique = f"{name[: LONGEST - len(end)].rstrip()}{end}"
    return unique


def retitle_jobs(session: Session, data_set: DataSet, old: str) -> None:
    """Put the data set's new name into the titles of its jobs."""
    for job in session.scalars(select(Job).where(Job.data_set_id == data_set.id)):
        for title in TITLES:
            if job.title.startswith(title + old):
                job.title = f"{title}{data_set.name}{job.title[len(title + old) :]}"[:300]
