"""Rows → arrays: the images of a version as the engine takes them, over the memory map."""

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Version, images_of
from backend.core.storage import Storage
from worker.engine import Images
from worker.jobs import JobFailed

# What each split is for, in the words of its error.
PURPOSES = {
    "train": "nothing to learn from",
    "validation": "nothing to define harm with",
    "test": "nothing to judge with",
}


def load(session: Session, storage: Storage, version_id: int, split: str) -> Images:
    """The images of one split of a version, with the labels they have there and their database ids, in order of id.

    Raises JobFailed for an empty split and where the pixels are not there.
    """
    version = session.get_one(Version, version_id)
    statement = images_of(version_id).subquery()
    rows = session.execute(
        select(statement.c.id, statement.c.row, statement.c.label).where(statement.c.split == split)
    ).all()
    if not rows:
        raise JobFailed(
            f"The {split} split of version {version.number} has no images, so there is {PURPOSES[split]}. Import it anew with one."
        )
    ids, places, labels = np.array(rows, dtype=np.int64).T
    order = np.argsort(ids)
    return Images(pixels(storage, version.data_set_id), labels[order], ids[order], places[order])


def pixels(storage: Storage, data_set_id: int) -> np.ndarray:
    """The data set's pixel array (N, H, W, C), as a read-only memory map. Raises JobFailed where it is missing or damaged."""
    try:
        array: np.ndarray = np.load(storage.pixels(data_set_id), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise JobFailed(
            "The pixels of this data set are missing or damaged; import it again."
        ) from error
    return array


def class_names(session: Session, data_set_id: int) -> list[str]:
    """Class names, in order of their labels."""
    return session.get_one(DataSet, data_set_id).class_names
