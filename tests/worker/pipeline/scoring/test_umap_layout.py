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


def test_the_job_gives_every_image_a_second_place(trained: Scenario) -> None:
    review = start(trained, method="margin")
    work(trained, review.job_id)
    work(trained, ask(trained, review))
    with trained.database.transaction(write=False) as session:
        points = session.scalars(select(MapPoint).where(MapPoint.review_id == review.id)).all()
        found = [(point.near_x, point.near_y) for point in points]
    assert len(set(found)) == len(found) == 160


def test_neighbours_stay_together_and_the_same_points_get_the_same_places() -> None:
    generator = np.random.default_rng(0)
    middles = 4 * generator.normal(size=(4, 20))
    kinds = np.arange(240) % 4
    points = (middles[kinds] + generator.normal(size=(240, 20))).astype(np.float32)
    at = umap_child.layout(points)
    assert np.array_equal(umap_child.layout(points), at)
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
    arranging: list[psutil.Process] = []

    def cancel() -> None:
        if time.monotonic() - began > 1:
            arranging.extend(
                child
                for child in psutil.Process().children()
                if child.status() != psutil.STATUS_ZOMBIE
                and "worker.pipeline.scoring.umap_child" in child.cmdline()
            )
            raise JobCancelled

    with pytest.raises(JobCancelled):
        umap_layout.layout(points, cancel)
    assert time.monotonic() - began < 5
    assert [child.is_running() for child in arranging] == [False]


def test_a_map_whose_process_dies_is_a_failure_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(JobFailed, match="Arranging the map ended with status"):
        umap_layout.layout(np.zeros((100, 3), np.float32), lambda: None)
