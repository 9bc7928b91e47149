"""Which images look alike to the model: nearest neighbours, groups, and a first map, from what its last layer sees (docs/decisions/0028).

Nothing here holds the features of all images: they are read in parts and kept in a few directions, those along which images differ most.
"""

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

# Directions that are kept; images that they are chosen from; images read at a time.
KEPT, SAMPLE, PART = 64, 10_000, 4_096
# Neighbours of an image in either class.
NEAREST = 6
# Groups: one for so many images, and no more than a person reads.
GROUP_SIZE, MOST_GROUPS = 40, 24


def rows(
    context: JobContext, training: Training, images: Images, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """One row an image for the table `map_points`, without its review; none where the network has no layer to look at.

    predicted: (N,) classes.
    """
    context.log("Looking at which images are alike.")
    try:
        points = compact(
            training,
            images,
            lambda done: context.progress(done, len(images), "Looking at which images are alike"),
        )
    except EngineError as error:
        # The scores are what was asked for; the map and the neighbours are more.
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


def known(session: Session, review: Review) -> int | None:
    """Another review of the same run whose images have their places already; its rows would be this one's."""
    others = select(Review.id).where(
        Review.run_id == review.run_id, Review.id != review.id, Review.state == "ready"
    )
    return session.scalar(
        others.where(
            select(MapPoint.image_id).where(MapPoint.review_id == Review.id).exists()
        ).limit(1)
    )


def copy(session: Session, source: int, review_id: int) -> None:
    """Give a review the rows of another one of its run, the second layout included."""
    columns = [column.name for column in MapPoint.__table__.columns if column.name != "review_id"]
    rows = select(literal(review_id), *(MapPoint.__table__.c[name] for name in columns)).where(
        MapPoint.review_id == source
    )
    session.execute(insert(MapPoint).from_select(["review_id", *columns], rows))


def ids(images: Images, places: np.ndarray) -> list[int]:
    """Ids of the images at these places; a place below 0 is none."""
    return [int(number) for number in images.ids[places[places >= 0]]]


def compact(training: Training, images: Images, progress: Callable[[int], None]) -> np.ndarray:
    """What the last layer sees, of unit length and along the KEPT directions in which the images differ most, (N, ≤ KEPT) float32.

    Raises EngineError where the network has no such layer.
    """
    # Here, because it takes a second that nothing else should wait for.
    from sklearn.decomposition import PCA

    sample = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
    all_of_them = len(sample) == len(images)
    seen = np.concatenate(
        list(
            _parts(training, images, sample, progress if all_of_them else lambda _done: progress(0))
        )
    )
    # Many features are taken apart by random directions: in full, 8,192 of them take minutes and gigabytes.
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
    """Places of the nearest images with the wanted class (N,) as their label, never the image itself, (N, NEAREST); -1 where there are no more."""
    from sklearn.neighbors import NearestNeighbors

    found = np.full((len(points), NEAREST), -1, dtype=np.int64)
    for label in np.unique(wanted):
        members, askers = np.flatnonzero(labels == label), np.flatnonzero(wanted == label)
        if not len(members):
            continue
        # One more, for the image itself.
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
    """The first NEAREST of each row (B, K) that are not the row's own image (B,); -1 behind them."""
    padded = np.concatenate([near, np.full((len(near), NEAREST + 1 - near.shape[1]), -1)], axis=1)
    # A stable sort that moves only the image itself, and what is missing, to the end.
    order = np.argsort((padded == own[:, None]) | (padded < 0), axis=1, kind="stable")
    ordered = np.take_along_axis(padded, order, axis=1)
    ordered[ordered == own[:, None]] = -1
    kept: np.ndarray = ordered[:, :NEAREST]
    return kept


def groups(points: np.ndarray) -> np.ndarray:
    """Which group of like images each one belongs to, (N,), the largest group being 1."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    count = min(MOST_GROUPS, max(1, len(points) // GROUP_SIZE))
    with warnings.catch_warnings():
        # Images that look all the same make fewer groups, which is right.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = MiniBatchKMeans(count, random_state=0, n_init=3).fit_predict(points)
    sizes = np.bincount(found, minlength=count)
    place = np.empty(count, dtype=np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    placed: np.ndarray = place[found]
    return placed
