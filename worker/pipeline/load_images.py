"""Load a version's images for the engine, over the memory map."""

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Version, images_of
from backend.core.storage import Storage
from worker.engine import Images
from worker.jobs import JobFailed

PURPOSES = {
    "train": "nothing to learn from",
    "validation": "nothing to define harm with",
    "test": "nothing to judge with",
}


def load(session: Session, storage: Storage, version_id: int, split: str) -> Images:
    """Load a split of a version: labels and database ids in order of id.

    Raises JobFailed for an empty split and for missing pixels.
    """
    version = session.get_one(Version, version_id)
    statement = images_of(version_id).subquery()
    rows = session.execute(
        select(statement.c.id, statement.c.row, statement.c.label).where(statement.c.split == split)
    ).all()
    if not rows:
        raise JobFailed(
            f"The {split} split of version {version.number} has no images, so there is "
            f"{PURPOSES[split]}. Import the data set again with one."
        )
    ids, places, labels = np.array(rows, dtype=np.int64).T
    order = np.argsort(ids)
    return Images(pixels(storage, version.data_set_id), labels[order], ids[order], places[order])


def pixels(storage: Storage, data_set_id: int) -> np.ndarray:
    """Map the pixel array (N, H, W, C), read-only. Raises JobFailed if missing or damaged."""
    try:
        array: np.ndarray = np.load(storage.pixels(data_set_id), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise JobFailed(
            "This worker does not find the pixels of this data set. If they are on another "
            "machine, let all workers share one folder of files; else import the data set again."
        ) from error
    except (OSError, ValueError) as error:
        raise JobFailed(
            "The pixels of this data set cannot be read: the file is damaged. Import it again."
        ) from error
    return array


def class_names(session: Session, data_set_id: int) -> list[str]:
    return session.get_one(DataSet, data_set_id).class_names
