"""A scoring's job with real trainings: every method fills a review, at a known cost."""

import pytest
from sqlalchemy import select

from backend.core.catalogue import METHODS
from backend.core.models import Job, JobLogLine, Review, Run, Score, Scoring
from tests.cleansing_scenario import Scenario
from tests.worker.engine import pretended_machine
from tests.worker.pipeline.scoring.scoring import queue_of, start, work
from worker.jobs import perform


def test_a_finished_training_knows_what_every_method_would_cost(trained: Scenario) -> None:
    with trained.database.transaction(write=False) as session:
        run = session.get_one(Run, trained.run_id)
        costs = run.report["costs"]
    assert set(costs) == set(METHODS)
    drawn = costs["random"]["last_epoch"]
    assert drawn["passes"] == 2  # predictions, and similarity
    for name, method in METHODS.items():
        last, whole = costs[name]["last_epoch"], costs[name]["all_epochs"]
        assert (whole["seconds"] > last["seconds"]) == method.spans, name
        assert (last["damping_seconds"] is not None) == method.damps, name
        assert last["seconds"] > 0
        # Seconds are passes at the training's own pace, three to an epoch.
        assert last["seconds"] / last["passes"] == pytest.approx(
            drawn["seconds"] / drawn["passes"], rel=0.05
        )
    assert (
        costs["marginal_influence"]["last_epoch"]["passes"]
        > costs["sgd_influence"]["last_epoch"]["passes"]
    )
    assert (
        costs["random"]["last_epoch"]["stored_bytes"]
        == 0
        < costs["tracin"]["last_epoch"]["stored_bytes"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_a_review_in_the_order_of_its_own_ranking(
    trained: Scenario, method: str
) -> None:
    review = start(trained, method=method)
    work(trained, review.job_id)
    rows = queue_of(trained, review)
    with trained.database.transaction(write=False) as session:
        ready = session.get_one(Review, review.id)
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        values = dict(
            session.execute(
                select(Score.image_id, Score.value).where(Score.scoring_id == scoring.id)
            ).all()
        )
    assert (ready.state, ready.suggestion_count, scoring.state, scoring.method) == (
        "ready",
        len(rows),
        "done",
        method,
    )
    assert [row.image_id for row in sorted(rows, key=lambda row: row.accuracy_rank)] == [
        image_id for image_id, _ in sorted(values.items(), key=lambda pair: (pair[1], pair[0]))
    ]
    # The chosen method's first image comes first.
    assert rows[0].accuracy_rank == 1
    assert "trust" in scoring.report


@pytest.mark.slow
def test_another_machine_scores_by_what_needs_no_replay_and_measures_nothing(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        pretended_machine.other_arithmetic(elsewhere)
        review = start(trained, method="tracin")
        work(trained, review.job_id)
        replayed = start(trained, method="sgd_influence", span="all_epochs")
        perform(replayed.job_id, trained.database, trained.storage, trained.settings)
    with trained.database.transaction(write=False) as session:
        report = session.get_one(Scoring, review.accuracy_scoring_id).report
        refused = session.get_one(Job, replayed.job_id)
    assert "predicted_change" in report
    assert "measured_change" not in report
    assert refused.state == "failed"
    assert "exact scores are not possible here" in (refused.error or "")


@pytest.mark.slow
def test_by_margin_alone_the_queue_is_that_ranking(trained: Scenario) -> None:
    review = start(trained, method="margin")
    work(trained, review.job_id)
    rows = queue_of(trained, review)
    assert [(row.accuracy_rank, row.label_rank) for row in rows] == [
        (place, place) for place in range(1, len(rows) + 1)
    ]
    assert {row.brought_by for row in rows} == {"label"}
    assert [row.label_value for row in rows] == sorted(row.label_value for row in rows)


@pytest.mark.slow
def test_a_damping_that_is_measured_is_in_the_report(trained: Scenario) -> None:
    review = start(trained, method="final_params", damping="auto")
    work(trained, review.job_id)
    with trained.database.transaction(write=False) as session:
        report = session.get_one(Scoring, review.accuracy_scoring_id).report
    assert set(report["damping_errors"]) >= {"1", "0.5"}
    assert any("really left out" in sentence for sentence in report["trust"])


@pytest.mark.slow
def test_a_scoring_whose_worker_dies_after_the_ranking_goes_on_from_it(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = start(trained, method="sgd_influence")
    work(trained, undisturbed.job_id)
    with trained.database.transaction() as session:
        # Starting the same scoring again would open its review.
        session.get_one(Scoring, undisturbed.accuracy_scoring_id).options = {"span": "other"}
    review = start(trained, method="sgd_influence")

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.predict", die)
        with pytest.raises(SystemExit):
            work(trained, review.job_id)
    with trained.database.transaction() as session:
        job = session.get_one(Job, review.job_id)
        assert (job.state, job.attempts, job.attempts_without_progress) == ("running", 1, 0)
        job.state, job.claim = "queued", None
    work(trained, review.job_id)
    with trained.database.transaction(write=False) as session:
        log = list(session.scalars(select(JobLogLine.message).order_by(JobLogLine.id)))
    assert "The ranking is there already; going on from it." in log
    shown = [
        [(row.image_id, row.position, row.accuracy_value) for row in queue_of(trained, one)]
        for one in (undisturbed, review)
    ]
    assert shown[0] == shown[1]
    assert list(trained.storage.run(trained.run_id).glob("scores-of-job-*")) == []
