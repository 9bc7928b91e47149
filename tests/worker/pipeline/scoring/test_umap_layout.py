"""The map that keeps neighbours together, as its job leaves it."""

import shutil
import sys
import time

import numpy as np
import psutil
import pytest
from sqlalchemy import select

from backend.core.models import MapPoint, Review, User
from backend.review.insight import maps as service
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import start, work
from worker.jobs import JobCancelled, JobFailed
from worker.pipeline.scoring import umap_child, umap_layout

pytestmark = pytest.mark.slow  # numba compiles


def ask(scenario: Scenario, review: Review) -> int:
    with scenario.database.transaction() as session:
        user = session.get_one(User, scenario.reviewer.id)
        service.request_layout(session, user, session.get_one(Review, review.id))
        job = service._job(session, review)
        assert job is not None
        return job.id


def test_the_job_gives_every_image_a_second_place_and_the_same_again(trained: Scenario) -> None:
    review = start(trained, method="margin")
    work(trained, review.job_id)
    found = []
    for _ in range(2):
        with trained.database.transaction() as session:
            for point in session.scalars(select(MapPoint)):
                point.near_x = point.near_y = None
        work(trained, ask(trained, review))
        with trained.database.transaction(write=False) as session:
            points = session.scalars(
                select(MapPoint).where(MapPoint.review_id == review.id).order_by(MapPoint.image_id)
            ).all()
            found.append([(point.near_x, point.near_y) for point in points])
    assert len(set(found[0])) == len(found[0]) == 160
    assert found[0] == found[1]


def test_neighbours_stay_together() -> None:
    generator = np.random.default_rng(0)
    middles = 4 * generator.normal(size=(4, 20))
    kinds = np.arange(240) % 4
    at = umap_child.layout((middles[kinds] + generator.normal(size=(240, 20))).astype(np.float32))
    apart = np.linalg.norm(at[:, None] - at[None], axis=2) + np.where(np.eye(240), np.inf, 0)
    assert (kinds[apart.argmin(1)] == kinds).mean() > 0.98


@pytest.mark.parametrize("shape", [(3, 5), (44, 2), (60, 1)])
def test_few_images_stay_where_the_overview_has_them(shape: tuple[int, int]) -> None:
    points = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    at = umap_child.layout(points)
    assert at.shape == (shape[0], 2)
    assert np.array_equal(at[:, 0].astype(np.float32), points[:, 0])


def test_a_map_is_given_up_at_once_and_its_process_with_it() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    began = time.monotonic()

    def cancel() -> None:
        if time.monotonic() - began > 1:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        umap_layout.layout(points, cancel)
    assert time.monotonic() - began < 5
    assert not [
        child for child in psutil.Process().children() if "umap_child" in " ".join(child.cmdline())
    ]


def test_a_map_whose_process_dies_is_a_failure_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(JobFailed, match="Arranging the map ended with status"):
        umap_layout.layout(np.zeros((100, 3), np.float32), lambda: None)
