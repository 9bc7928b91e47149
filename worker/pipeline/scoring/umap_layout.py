"""Second map that keeps neighbours together (UMAP, McInnes et al. 2018; docs/decisions/0029)."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sqlalchemy import bindparam, update

from backend.core.models import MapPoint, Review, Run
from worker.jobs import JobContext, JobFailed
from worker.pipeline import engine_setup, load_images
from worker.pipeline.scoring import similarity

PROJECT = Path(__file__).resolve().parents[3]
WAIT_SECONDS = 0.2
# Part of the job's bar for reading the images; arranging them does not tell how far it is.
LOOKING_SHARE = 0.3
# Beyond this it takes hours and much memory.
MOST = 200_000


def arrange(context: JobContext) -> None:
    with context.database.transaction(write=False) as session:
        review = session.get_one(Review, context.subject_id)
        recipe = session.get_one(Run, review.run_id).recipe
        images = load_images.load(session, context.storage, review.version_id, "train", recipe)
    if len(images) > MOST:
        raise JobFailed(
            f"A map that keeps neighbours together can be made of {MOST:,} images at most; this "
            f"review has {len(images):,}."
        )
    engine_setup.ready(context.settings, context.storage)
    training = engine_setup.load_training(context.storage, review.run_id)
    context.phase(0.0, LOOKING_SHARE)
    points = similarity.compact(
        training,
        images,
        lambda done: context.progress(done, len(images), "Looking at which images are alike"),
    )
    context.log(f"Arranging {len(images):,} images.")
    _cache_at(context.storage.cache("numba"))
    context.phase(LOOKING_SHARE, 1.0)
    at = layout(points, lambda: context.progress(0, 0, "Arranging the images"))
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


def layout(points: np.ndarray, wait: Callable[[], None]) -> np.ndarray:
    """Lay out points (N, D) in the plane, (N, 2) float64, in a child process.

    wait: called a few times a second; may raise to stop. Raises JobFailed if the child dies.
    """
    question = io.BytesIO()
    np.save(question, points, allow_pickle=False)
    paths = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(
        [sys.executable, "-m", "worker.pipeline.scoring.umap_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    answers: list[bytes] = []
    talk = threading.Thread(
        target=lambda: answers.append(child.communicate(question.getvalue())[0])
    )
    talk.start()
    try:
        while talk.is_alive():
            talk.join(WAIT_SECONDS)
            wait()
    finally:
        child.kill()
        talk.join()
    if child.returncode != 0:
        raise JobFailed(
            f"Arranging the map ended with status {child.returncode}, most often for lack of "
            "memory. Add memory, then press “Try again”."
        )
    found: np.ndarray = np.load(io.BytesIO(answers[0]), allow_pickle=False)
    return found
