"""Planted errors: wrong labels with recorded truth, for judging a review."""

import random

from sqlalchemy import select, update

from backend.core.db import Database
from backend.core.models import DataSet, Image


def plant(database: Database, data_set_id: int, share: float, seed: int) -> int:
    """Flip a share of the training labels, and record each true label.

    Args:
        database: holds the data set.
        data_set_id: unused so far.
        share: of the training images, from 0 to 1.
        seed: of the draw.

    Returns:
        The number of flipped labels.
    """
    with database.transaction() as session:
        data_set = session.get_one(DataSet, data_set_id)
        images = session.execute(
            select(Image.id, Image.label)
            .where(Image.data_set_id == data_set_id, Image.split == "train")
            .order_by(Image.id)
        ).all()
        draw = random.Random(seed)
        chosen = draw.sample(images, round(share * len(images)))
        for image_id, label in chosen:
            wrong = draw.choice(
                [other for other in range(len(data_set.class_names)) if other != label]
            )
            session.execute(
                update(Image).where(Image.id == image_id).values(label=wrong, true_label=label)
            )
        data_set.planted_count += len(chosen)
    return len(chosen)
