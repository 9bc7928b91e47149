"""Load a version's images for the engine, over the memory map of pixels or of features."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.models import DataSet, Image, Version, images_of
from backend.core.storage import Storage
from worker.engine import Features, Images, StoredFeatures
from worker.jobs import JobFailed
from worker.pipeline import engine_setup

PURPOSES = {
    "train": "nothing to learn from",
    "validation": "nothing to define harm with",
    "test": "nothing to judge with",
}


def load(
    session: Session,
    storage: Storage,
    version_id: int,
    split: str,
    recipe: Mapping[str, Any] | None = None,
) -> Images:
    """Load a split of a version: labels and database ids in order of id.

    With the recipe of a run that trained a head, the features of its backbone.

    Raises JobFailed for an empty split and for missing pixels, EngineError for missing features.
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
    listed = labels[order], ids[order], places[order]
    if recipe and recipe.get("backbone"):
        return of_features(open_features(session, storage, version.data_set_id, recipe), *listed)
    return Images(pixels(storage, version.data_set_id), *listed)


def open_features(
    session: Session, storage: Storage, data_set_id: int, recipe: Mapping[str, Any]
) -> StoredFeatures:
    """Open the features that a finished run was trained on. Raises EngineError if missing."""
    hashes = select(Image.content_hash).where(Image.data_set_id == data_set_id)
    keys = list(session.scalars(hashes.order_by(Image.row)))
    backbone, count = recipe["backbone"], recipe["channels"]
    return engine_setup.feature_store(storage, data_set_id, backbone, count, keys).open()


def of_features(
    stored: StoredFeatures, labels: np.ndarray, ids: np.ndarray, rows: np.ndarray | None
) -> Features:
    """List images as their features, without a copy."""
    return Features(
        stored.array,
        labels,
        ids,
        rows,
        mean=stored.mean,
        std=stored.std,
        backbone=stored.backbone,
    )


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
