"""Second map that keeps neighbours together (UMAP, McInnes et al. 2018; docs/decisions/0029)."""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sqlalchemy import bindparam, update

from backend.core.models import MapPoint, Review
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup, load_images
from worker.pipeline.scoring import similarity

NEIGHBOURS = 15
# Beyond this it takes hours and much memory.
MOST = 200_000


def arrange(context: JobContext) -> None:
    with context.database.transaction(write=False) as session:
        review = session.get_one(Review, context.subject_id)
        images = load_images.load(session, context.storage, review.version_id, "train")
    if len(images) > MOST:
        raise JobFailed(
            f"A map that keeps neighbours together can be made of {MOST:,} images at most; this "
            f"review has {len(images):,}."
        )
    engine_setup.ready(context.settings, context.storage)
    training = engine_setup.load_training(context.storage, review.run_id)
    points = similarity.compact(
        training,
        images,
        lambda done: context.progress(done, len(images), "Looking at which images are alike"),
    )
    context.log(f"Arranging {len(images):,} images; this cannot be interrupted.")
    _cache_at(context.storage.cache("numba"))
    at = layout(points)
    rows = [
        {"image": image_id, "across": x, "down": y}
        for image_id, (x, y) in zip(images.ids.tolist(), at.tolist(), strict=True)
    ]
    mine = (MapPoint.review_id == review.id, MapPoint.image_id == bindparam("image"))
    with context.finish() as session:
        session.connection().execute(
            update(MapPoint)
            .where(*mine)
            .values(near_x=bindparam("across"), near_y=bindparam("down")),
            rows,
        )


def _cache_at(folder: Path) -> None:
    """Set numba's cache where the package is read-only, as in a container."""
    package = find_spec("umap")
    if (
        package is None
        or package.origin is None
        or not os.access(Path(package.origin).parent, os.W_OK)
    ):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


def layout(points: np.ndarray) -> np.ndarray:
    """Lay out points (N, D) in the plane, (N, 2) float64, deterministically."""
    if len(points) < 3 * NEIGHBOURS or points.shape[1] < 2:
        return np.column_stack(
            [points[:, 0], points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))]
        ).astype(np.float64)
    with warnings.catch_warnings():
        # UMAP warns that TensorFlow is missing, which is not needed here.
        warnings.simplefilter("ignore", ImportWarning)
        # Takes seconds.
        from umap import UMAP

    # Starts from the overview, so that the maps resemble each other; one thread is repeatable.
    found = UMAP(n_neighbors=NEIGHBOURS, init="pca", random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(found, dtype=np.float64)
