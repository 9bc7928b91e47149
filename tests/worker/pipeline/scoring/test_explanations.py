"""Explaining images: the first with the scoring, others on demand, and ahead when idle."""

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from backend.core.models import Explanation, Job, Review, Suggestion
from backend.review.insight.explanations import request_explanation
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import queue_of, start, work
from worker import engine
from worker.engine.errors import EngineError
from worker.pipeline import load_images
from worker.pipeline.scoring import explanations as why


@pytest.fixture
def review(trained: Scenario) -> Review:
    """A review that is scored; nothing is explained any more."""
    made = start(trained, method="final_params")
    work(trained, made.job_id)
    with trained.database.transaction() as session:
        session.execute(delete(Explanation))
    return made


def explanations(scenario: Scenario) -> dict[int, Explanation]:
    with scenario.database.transaction(write=False) as session:
        return {one.image_id: one for one in session.scalars(select(Explanation))}


def ask(scenario: Scenario, review: Review, image_id: int) -> int:
    """Request an explanation; returns the job."""
    with scenario.database.transaction() as session:
        request_explanation(
            session, scenario.reviewer, session.get_one(Review, review.id), image_id
        )
        return (
            session.scalars(
                select(Job.id).where(Job.kind == "explain").order_by(Job.id.desc())
            ).first()
            or 0
        )


@pytest.mark.slow
def test_a_scoring_explains_the_first_suggestions(trained: Scenario) -> None:
    review = start(trained, method="sgd_influence")
    work(trained, review.job_id)
    found, queue = explanations(trained), queue_of(trained, review)
    assert 0 < len(found) <= why.MOST_IMAGES
    assert set(found) == {row.image_id for row in queue[: len(found)]}
    assert {one.state for one in found.values()} == {"done"}


@pytest.mark.slow
def test_an_explanation_is_what_the_engine_says(trained: Scenario, review: Review) -> None:
    image_id = queue_of(trained, review)[3].image_id
    work(trained, ask(trained, review, image_id))
    with trained.database.transaction(write=False) as session:
        images = load_images.load(session, trained.storage, review.version_id, "train")
        validation = load_images.load(session, trained.storage, review.version_id, "validation")
    training = engine.load_training(trained.storage.run(review.run_id))
    changes = engine.explain(
        training, images, validation, int(np.flatnonzero(images.ids == image_id)[0])
    )
    found = explanations(trained)[image_id]
    order = validation.ids[np.argsort(changes)].tolist()
    assert (found.worse, found.better) == (order[:4], order[::-1][:4])
    assert changes.min() < 0 < changes.max()


@pytest.mark.slow
def test_the_job_goes_on_with_what_comes_next_and_leaves_out_what_is_decided(
    trained: Scenario, review: Review
) -> None:
    queue = queue_of(trained, review)
    with trained.database.transaction() as session:
        session.execute(
            update(Suggestion)
            .where(Suggestion.image_id == queue[12].image_id)
            .values(decision="keep")
        )
    work(trained, ask(trained, review, queue[10].image_id))
    found = set(explanations(trained))
    assert {queue[10].image_id, queue[11].image_id, queue[13].image_id} <= found
    assert queue[12].image_id not in found
    assert not found & {row.image_id for row in queue[:10]}


@pytest.mark.slow
def test_it_does_only_what_is_asked_while_other_work_waits(
    trained: Scenario, review: Review
) -> None:
    with trained.database.transaction() as session:
        session.add(Job(kind="train", title="Train", subject_id=1))
    image_id = queue_of(trained, review)[5].image_id
    work(trained, ask(trained, review, image_id))
    assert set(explanations(trained)) == {image_id}


@pytest.mark.slow
def test_what_is_asked_while_the_job_ends_gets_a_job_of_its_own(
    trained: Scenario, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of(trained, review)
    job_id = ask(trained, review, queue[0].image_id)
    following = why._next

    def too_late(context: object, *, ahead: bool) -> int | None:
        found = following(context, ahead=False)  # type: ignore[arg-type]  # as it is handed
        if found is None:
            ask(trained, review, queue[1].image_id)
        return found

    monkeypatch.setattr(why, "_next", too_late)
    work(trained, job_id)
    monkeypatch.undo()
    with trained.database.transaction(write=False) as session:
        (again,) = session.scalars(
            select(Job.id).where(Job.kind == "explain", Job.state == "queued")
        ).all()
    assert again != job_id
    monkeypatch.setattr("backend.core.queue.send", lambda *_: None)
    work(trained, again)
    assert explanations(trained)[queue[1].image_id].state == "done"


@pytest.mark.slow
def test_the_last_layer_chooses_among_all_validation_images_and_is_read_once(
    trained: Scenario, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why, "LOOKED_AT", 12)
    folder = trained.storage.run(review.run_id)
    kept, stored = folder / "why" / "readout.safetensors", engine.stored_bytes(folder)
    assert kept.exists()  # the scoring's own explanations needed it
    monkeypatch.setattr(engine, "read_out", None)
    image_id = queue_of(trained, review)[0].image_id
    work(trained, ask(trained, review, image_id))
    found = explanations(trained)[image_id]
    with trained.database.transaction(write=False) as session:
        validation = load_images.load(session, trained.storage, review.version_id, "validation")
    assert found.looked == len(validation) > 12
    assert len(found.worse) == len(found.better) == why.SHOWN
    assert (
        engine.stored_bytes(folder) == stored
    )  # the files for retracing the training are unchanged


@pytest.mark.slow
def test_where_the_last_layer_cannot_choose_time_limits_how_many_and_always_the_same_are_chosen(
    trained: Scenario, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("The network has no linear layer.")

    training = engine.load_training(trained.storage.run(review.run_id))
    seconds = np.median([report.seconds for report in training.history])
    assert why.count_affordable(training, 10**6) == int(1.5 * 10**6 / seconds)
    monkeypatch.setattr(engine, "load_readout", lambda *_: None)
    monkeypatch.setattr(engine, "read_out", refuse)
    monkeypatch.setattr(why, "SECONDS", 0.0)
    assert why.count_affordable(training, 160) == why.LEAST_LOOKED
    monkeypatch.setattr(why, "LEAST_LOOKED", 10)
    image_id = queue_of(trained, review)[0].image_id
    work(trained, ask(trained, review, image_id))
    with trained.database.transaction(write=False) as session:
        validation = load_images.load(session, trained.storage, review.version_id, "validation")
    found, some = explanations(trained)[image_id], why.spread(validation, 10)
    assert found.looked == len(some) == 10 < len(validation)
    assert set(found.worse + found.better) <= set(some.ids.tolist())
    assert some.ids[0] == validation.ids[0]
    assert some.ids[-1] == validation.ids[-1]


@pytest.mark.slow
def test_a_scoring_is_done_also_where_nothing_can_be_explained(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("The run's file is missing.")

    monkeypatch.setattr(engine, "explain_most", refuse)
    review = start(trained, method="final_params")
    work(trained, review.job_id)
    assert explanations(trained) == {}
    assert len(queue_of(trained, review)) > 0
