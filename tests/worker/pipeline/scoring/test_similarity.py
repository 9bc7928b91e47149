"""Similar images: neighbours, groups and the first map, as a scoring stores them."""

import numpy as np
import pytest
from sqlalchemy import select, update

from backend.core.models import MapPoint
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import queue_of, start, work
from worker import engine
from worker.engine import EngineError
from worker.pipeline.scoring import similarity


def points_of(scenario: Scenario, review_id: int) -> dict[int, MapPoint]:
    with scenario.database.transaction(write=False) as session:
        return {
            point.image_id: point
            for point in session.scalars(select(MapPoint).where(MapPoint.review_id == review_id))
        }


@pytest.mark.slow
def test_a_scoring_leaves_each_image_a_place_a_group_and_its_neighbours(trained: Scenario) -> None:
    review = start(trained, method="margin")
    work(trained, review.job_id)
    queue = {row.image_id: row for row in queue_of(trained, review)}
    points = points_of(trained, review.id)
    assert set(points) == set(queue)
    assert len({(point.x, point.y) for point in points.values()}) > 100
    for image_id, point in points.items():
        own = queue[image_id]
        assert len(point.like_given) == len(set(point.like_given)) == similarity.NEAREST
        assert image_id not in point.like_given + point.like_predicted
        assert {queue[near].label for near in point.like_given} == {own.label}
        assert {queue[near].label for near in point.like_predicted} == (
            set() if own.predicted == own.label else {own.predicted}
        )
        assert point.near_x is None


@pytest.mark.slow
def test_repeating_a_scoring_gives_the_same_map(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "find_review_with_map", lambda *_: None)
    first, second = start(trained, method="margin"), start(trained, method="margin")
    for review in (first, second):
        work(trained, review.job_id)
    one, other = points_of(trained, first.id), points_of(trained, second.id)
    for image_id, point in one.items():
        assert (point.x, point.y, point.in_group) == (
            other[image_id].x,
            other[image_id].y,
            other[image_id].in_group,
        )
        assert point.like_given == other[image_id].like_given


@pytest.mark.slow
def test_what_looks_alike_is_worked_out_once_a_run_and_the_second_layout_comes_along(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(trained, method="margin")
    work(trained, first.job_id)
    with trained.database.transaction() as session:
        session.execute(
            update(MapPoint)
            .where(MapPoint.review_id == first.id)
            .values(near_x=MapPoint.image_id, near_y=-1.5)
        )

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("The features are read again.")

    monkeypatch.setattr(engine, "features", refuse)
    second = start(trained, method="highest_loss")
    work(trained, second.job_id)
    one, other = points_of(trained, first.id), points_of(trained, second.id)
    names = [column.name for column in MapPoint.__table__.columns if column.name != "review_id"]
    assert [[getattr(point, name) for name in names] for point in one.values()] == [
        [getattr(point, name) for name in names] for point in other.values()
    ]
    assert len(one) == len(queue_of(trained, second))


@pytest.mark.slow
def test_a_network_without_a_last_layer_is_scored_without_a_map(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("The network has no linear layer.")

    monkeypatch.setattr(engine, "features", refuse)
    review = start(trained, method="margin")
    work(trained, review.job_id)
    assert points_of(trained, review.id) == {}
    assert queue_of(trained, review)


@pytest.mark.parametrize(("sample", "share"), [(similarity.SAMPLE, 0.99), (300, 0.95)])
def test_many_features_are_kept_along_directions_nearly_as_good_as_the_best(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch, sample: int, share: float
) -> None:
    monkeypatch.setattr(similarity, "SAMPLE", sample)
    generator = np.random.default_rng(0)
    spread = generator.normal(size=(400, 90)) * 0.95 ** np.arange(90)
    seen = (
        spread @ generator.normal(size=(90, 3000)) + 0.1 * generator.normal(size=(400, 3000))
    ).astype(np.float32)
    images = engine.Images(
        np.zeros((400, 1, 1, 1), np.uint8), np.zeros(400, np.int64), np.arange(400)
    )
    monkeypatch.setattr(engine, "features", lambda _training, part: seen[part.ids])
    training = engine.load_training(trained.storage.run(trained.run_id))
    kept = similarity.compact(training, images, lambda _done: None)
    of_unit_length = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    variances = np.linalg.svd(of_unit_length - of_unit_length.mean(0), compute_uv=False) ** 2
    assert kept.shape == (400, similarity.KEPT)
    assert (kept**2).sum() > share * variances[: similarity.KEPT].sum()
    assert np.array_equal(kept, similarity.compact(training, images, lambda _done: None))


def brute(points: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> list[list[int]]:
    """Neighbours as the definition has them."""
    found = []
    for place, point in enumerate(points):
        others = [other for other in np.flatnonzero(labels == wanted[place]) if other != place]
        found.append(
            sorted(others, key=lambda other: float(((points[other] - point) ** 2).sum()))[
                : similarity.NEAREST
            ]
        )
    return found


def test_neighbours_are_the_nearest_of_the_wanted_class_and_never_the_image_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    points, labels, wanted = (
        generator.normal(size=(90, 5)),
        generator.integers(4, size=90),
        generator.integers(5, size=90),
    )
    labels[:3] = 9  # a class too small to fill a row
    wanted[:3] = 9
    points[10] = (
        points[11] + 1e-3
    )  # all but copies: the copy is a neighbour, the image itself is not
    labels[10] = labels[11] = wanted[10] = wanted[11] = 0
    for part in (similarity.PART, 7):
        monkeypatch.setattr(similarity, "PART", part)
        found = similarity.neighbours(points, labels, wanted)
        assert [[int(place) for place in row if place >= 0] for row in found] == brute(
            points, labels, wanted
        )
    assert found[10][0] == 11
    assert (found[wanted == 4] == -1).all()


def test_parts_do_not_change_what_is_kept(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.pipeline import load_images

    with trained.database.transaction(write=False) as session:
        images = load_images.load(session, trained.storage, trained.version_id, "train")
    training = engine.load_training(trained.storage.run(trained.run_id))
    whole = similarity.compact(training, images, lambda _done: None)
    monkeypatch.setattr(similarity, "PART", 50)
    np.testing.assert_allclose(
        similarity.compact(training, images, lambda _done: None), whole, atol=1e-4
    )


def test_groups_are_numbered_by_size_and_images_that_are_all_the_same_make_one(
    recwarn: pytest.WarningsRecorder,
) -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate(
        [generator.normal(size=(300, 3)), 50 + generator.normal(size=(60, 3))]
    ).astype(np.float32)
    sizes = np.bincount(similarity.groups(points))[1:]
    assert list(sizes) == sorted(sizes, reverse=True)
    assert len(set(similarity.groups(points)[300:]) & set(similarity.groups(points)[:300])) == 0
    assert set(similarity.groups(np.zeros((100, 3), dtype=np.float32))) == {1}
    assert set(similarity.groups(np.zeros((3, 3), dtype=np.float32))) == {1}
    assert len(recwarn) == 0
