"""Averages over seeds: jobs that never wait for each other, in any order, killed or retried."""

import random

import numpy as np
import pytest
from scipy.stats import rankdata
from sqlalchemy import select, update

from backend.core.job_lifecycle import requeue_jobs
from backend.core.models import Job, JobLogLine, Review, Run, Score, Scoring
from backend.jobs import service as jobs
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import queue_of, start, work
from worker.jobs import claim


def waiting(scenario: Scenario) -> list[Job]:
    """The jobs that a worker could take now."""
    with scenario.database.transaction(write=False) as session:
        return list(session.scalars(select(Job).where(Job.state == "queued").order_by(Job.id)))


def parts_of(scenario: Scenario, review: Review) -> list[Scoring]:
    with scenario.database.transaction(write=False) as session:
        return list(
            session.scalars(
                select(Scoring).where(Scoring.review_id == review.id).order_by(Scoring.id)
            )
        )


def values_of(scenario: Scenario, scoring_id: int | None) -> np.ndarray:
    with scenario.database.transaction(write=False) as session:
        return np.array(
            session.scalars(
                select(Score.value).where(Score.scoring_id == scoring_id).order_by(Score.image_id)
            ).all()
        )


def work_off(scenario: Scenario, seed: int) -> list[str]:
    """Perform waiting jobs in turn, in an order drawn by the seed; returns the kinds."""
    dice, done = random.Random(seed), []
    while queued := waiting(scenario):
        job = dice.choice(queued)
        work(scenario, job.id)
        done.append(job.kind)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_one_worker_finishes_an_average_in_whatever_order_it_takes_the_jobs(
    trained: Scenario, seed: int
) -> None:
    review = start(trained, method="tracin", runs=3)
    kinds = work_off(trained, seed)
    assert sorted(kinds) == ["member", "member", "member", "score", "train", "train"]
    assert kinds[-1] == "score"
    with trained.database.transaction(write=False) as session:
        ready = session.get_one(Review, review.id)
        scoring = session.get_one(Scoring, ready.accuracy_scoring_id)
        assert (ready.state, scoring.state, scoring.report["runs"]) == ("ready", "done", 3)
        assert any("3 runs agree" in sentence for sentence in scoring.report["trust"])
    parts = parts_of(trained, review)
    own = [values_of(trained, part.id) for part in parts]
    assert not np.allclose(own[0], own[1])
    assert values_of(trained, review.accuracy_scoring_id) == pytest.approx(
        np.mean(own, axis=0), rel=1e-12
    )
    rows = sorted(queue_of(trained, review), key=lambda row: row.image_id)
    assert [row.accuracy_rank for row in rows] == rankdata(
        np.mean(own, axis=0), method="ordinal"
    ).astype(int).tolist()


@pytest.mark.slow
def test_the_repeats_are_the_same_recipe_with_other_seeds(trained: Scenario) -> None:
    start(trained, method="random", runs=2)
    work_off(trained, 0)
    with trained.database.transaction(write=False) as session:
        original = session.get_one(Run, trained.run_id)
        repeat = session.scalars(select(Run).where(Run.repeats_run_id == original.id)).one()
    assert repeat.recipe == original.recipe | {"seed": original.seed + 1}
    assert repeat.params_hash != original.params_hash


@pytest.mark.slow
def test_a_second_average_trains_only_what_is_missing(trained: Scenario) -> None:
    start(trained, method="outlier", runs=2)
    assert work_off(trained, 0).count("train") == 1
    start(trained, method="margin", runs=3)
    assert sorted(work_off(trained, 0)) == ["member", "member", "member", "score", "train"]


@pytest.mark.slow
def test_an_average_by_margin_alone_has_one_ranking_too(trained: Scenario) -> None:
    review = start(trained, method="margin", runs=2)
    work_off(trained, 0)
    assert {row.brought_by for row in queue_of(trained, review)} == {"label"}
    assert all(row.accuracy_value == row.label_value for row in queue_of(trained, review))


@pytest.mark.slow
def test_a_member_that_was_killed_is_done_again_and_counts_once(trained: Scenario) -> None:
    review = start(trained, method="outlier", runs=2)
    (member,) = [job for job in waiting(trained) if job.kind == "member"]
    # The worker takes it and dies: the sweep, or the next worker, finds the row.
    assert claim(member.id, trained.database, 3) is not None
    with trained.database.transaction() as session:
        assert requeue_jobs(session, Job.id == member.id) == [member.id]
    kinds = work_off(trained, 0)
    assert sorted(kinds) == ["member", "member", "score", "train"]
    assert len(values_of(trained, parts_of(trained, review)[0].id)) == len(
        queue_of(trained, review)
    )
    with trained.database.transaction(write=False) as session:
        assert session.get_one(Review, review.id).state == "ready"


@pytest.mark.slow
def test_a_cancelled_member_holds_the_average_back_until_it_is_tried_again(
    trained: Scenario,
) -> None:
    review = start(trained, method="outlier", runs=2)
    (training,) = [job for job in waiting(trained) if job.kind == "train"]
    with trained.database.transaction() as session:
        jobs.cancel(session, trained.owner, training.id)
    assert work_off(trained, 0) == ["member"]
    with trained.database.transaction() as session:
        assert session.get_one(Review, review.id).job_id is None
        jobs.retry(session, trained.owner, training.id)
    assert work_off(trained, 0) == ["train", "member", "score"]
    with trained.database.transaction(write=False) as session:
        assert session.get_one(Review, review.id).state == "ready"


@pytest.mark.slow
def test_an_average_that_failed_is_tried_again_by_its_own_job(trained: Scenario) -> None:
    review = start(trained, method="outlier", runs=2)
    while [job.kind for job in waiting(trained)] != ["score"]:
        work(trained, waiting(trained)[0].id)
    (last,) = waiting(trained)
    with trained.database.transaction() as session:
        session.execute(
            update(Job).where(Job.id == last.id).values(state="failed", error="The disk is full.")
        )
        jobs.retry(session, trained.owner, last.id)
    assert work_off(trained, 0) == ["score"]
    with trained.database.transaction(write=False) as session:
        assert session.get_one(Review, review.id).state == "ready"
        lines = session.scalars(
            select(JobLogLine.message).where(JobLogLine.job_id == last.id)
        ).all()
    assert "Averaging the scores of 2 trainings." in lines
