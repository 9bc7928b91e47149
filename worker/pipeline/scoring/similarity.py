"""Similar images by the last layer: neighbours, groups, a map (docs/decisions/0028)."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from backend.core.models import MapPoint, Review
from worker import engine
from worker.engine import EngineError, Images, Training
from worker.jobs import JobContext

# Directions to keep, images to choose them from, images read at a time.
KEPT, SAMPLE, PART = 64, 10_000, 4_096
# In either class.
NEAREST = 6
# Images per group, and groups at most.
GROUP_SIZE, MOST_GROUPS = 40, 24


def make_rows(
    context: JobContext, training: Training, images: Images, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Make rows for the table `map_points`, without their review.

    None where the network has no last layer. predicted: classes (N,).
    """
    context.log("Looking at which images are alike.")
    try:
        points = compact(
            training,
            images,
            lambda done: context.progress(done, len(images), "Looking at which images are alike"),
        )
    except EngineError as error:
        context.log(f"No map of the images, and no neighbours: {error}")
        return []
    given, other = (
        neighbours(points, images.labels, images.labels),
        neighbours(points, images.labels, predicted),
    )
    at = (
        points[:, :2].astype(np.float64)
        if points.shape[1] > 1
        else np.column_stack([points[:, 0], np.zeros(len(points))])
    )
    columns = (
        images.ids.tolist(),
        at.tolist(),
        groups(points).tolist(),
        given,
        other,
        (predicted != images.labels).tolist(),
    )
    return [
        {
            "image_id": image_id,
            "x": x,
            "y": y,
            "in_group": group,
            "like_given": ids(images, own),
            "like_predicted": ids(images, far) if doubted else [],
        }
        for image_id, (x, y), group, own, far, doubted in zip(*columns, strict=True)
    ]


def find_review_with_map(session: Session, review: Review) -> int | None:
    others = select(Review.id).where(
        Review.run_id == review.run_id, Review.id != review.id, Review.state == "ready"
    )
    return session.scalar(
        others.where(
            select(MapPoint.image_id).where(MapPoint.review_id == Review.id).exists()
        ).limit(1)
    )


def copy_rows(session: Session, source: int, review_id: int) -> None:
    """Copy another review's map, with its second layout."""
    columns = [column.name for column in MapPoint.__table__.columns if column.name != "review_id"]
    rows = select(literal(review_id), *(MapPoint.__table__.c[name] for name in columns)).where(
        MapPoint.review_id == source
    )
    session.execute(insert(MapPoint).from_select(["review_id", *columns], rows))


def ids(images: Images, places: np.ndarray) -> list[int]:
    """Return the ids of the images at these places; places below 0 are empty."""
    return [int(number) for number in images.ids[places[places >= 0]]]


def compact(training: Training, images: Images, progress: Callable[[int], None]) -> np.ndarray:
    """Project last-layer features of unit length to (N, ≤ KEPT) float32.

    Raises EngineError where the network has no such layer.
    """
    # Takes a second.
    from sklearn.decomposition import PCA

    sample = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
    all_of_them = len(sample) == len(images)
    seen = np.concatenate(
        list(
            _parts(training, images, sample, progress if all_of_them else lambda _done: progress(0))
        )
    )
    # "auto": the exact method takes minutes and gigabytes for 8,192 features.
    directions = PCA(min(KEPT, *seen.shape), svd_solver="auto", random_state=0).fit(seen)
    kept = np.empty((len(images), directions.n_components_), dtype=np.float32)
    if all_of_them:
        kept[:] = directions.transform(seen)
        return kept
    done = 0
    for part in _parts(training, images, np.arange(len(images)), progress):
        kept[done : done + len(part)] = directions.transform(part)
        done += len(part)
    return kept


def _parts(
    training: Training, images: Images, places: np.ndarray, progress: Callable[[int], None]
) -> Iterator[np.ndarray]:
    for start in range(0, len(places), PART):
        progress(start)
        features = engine.features(training, images.subset(places[start : start + PART]))
        yield features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def neighbours(points: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find the nearest other images labelled with the wanted class, (N, NEAREST), or -1."""
    from sklearn.neighbors import NearestNeighbors

    found = np.full((len(points), NEAREST), -1, dtype=np.int64)
    for label in np.unique(wanted):
        members, askers = np.flatnonzero(labels == label), np.flatnonzero(wanted == label)
        if not len(members):
            continue
        # + 1 for the image itself.
        nearest = NearestNeighbors(
            n_neighbors=min(NEAREST + 1, len(members)), algorithm="brute"
        ).fit(points[members])
        for start in range(0, len(askers), PART):
            part = askers[start : start + PART]
            near = members[
                nearest.kneighbors(points[part], return_distance=False)
            ]  # (B, ≤ NEAREST + 1)
            found[part] = _without(near, part)
    return found


def _without(near: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the first NEAREST of each row (B, K) without its own image (B,), padded with -1."""
    padded = np.concatenate([near, np.full((len(near), NEAREST + 1 - near.shape[1]), -1)], axis=1)
    # A stable sort moves the image itself, and empty places, to the end.
    order = np.argsort((padded == own[:, None]) | (padded < 0), axis=1, kind="stable")
    ordered = np.take_along_axis(padded, order, axis=1)
    ordered[ordered == own[:, None]] = -1
    kept: np.ndarray = ordered[:, :NEAREST]
    return kept


def groups(points: np.ndarray) -> np.ndarray:
    """Group similar images, (N,); 1 is the largest group."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    count = min(MOST_GROUPS, max(1, len(points) // GROUP_SIZE))
    with warnings.catch_warnings():
        # Identical images make fewer groups.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = MiniBatchKMeans(count, random_state=0, n_init=3).fit_predict(points)
    sizes = np.bincount(found, minlength=count)
    place = np.empty(count, dtype=np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    placed: np.ndarray = place[found]
    return placed
