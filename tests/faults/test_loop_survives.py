"""kill -9 of worker, web and broker under the real `winnow up`, at random moments of a real training, scoring and import."""

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from backend.models import Decision, Image, Job, Review, Run, RunEpoch, Score, Scoring, Suggestion
from tests.running import Winnow, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

EPOCHS = 8


@pytest.fixture(scope="module")
def winnow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Winnow]:
    winnow = Winnow(tmp_path_factory.mktemp("faults"))
    yield winnow
    winnow.close()


@pytest.fixture(scope="module")
def data_set(winnow: Winnow) -> int:
    """The sample, imported undisturbed."""
    made = winnow.post("/data-sets", name="Undisturbed", source={"kind": "sample"}, seed=1)
    winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture(scope="module")
def run(winnow: Winnow, data_set: int) -> int:
    """A training of the sample, undisturbed."""
    made = winnow.post(f"/data-sets/{data_set}/runs", seed=5, epochs=EPOCHS)
    winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture(scope="module")
def review(winnow: Winnow, run: int) -> int:
    """Its scoring, undisturbed."""
    made = winnow.post(f"/runs/{run}/reviews")
    winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    return random.Random(seed)


def start_run(winnow: Winnow, data_set: int) -> tuple[int, int]:
    made = winnow.post(f"/data-sets/{data_set}/runs", seed=5, epochs=EPOCHS)
    return int(made["id"]), int(made["job"]["id"])


def hashes(winnow: Winnow, run_id: int) -> tuple[str | None, list[tuple[Any, ...]]]:
    """The hash of the final parameters, and of the parameters at each epoch's end."""
    final = winnow.rows(select(Run.params_hash).where(Run.id == run_id))[0][0]
    return final, winnow.rows(select(RunEpoch.epoch, RunEpoch.params_hash).where(RunEpoch.run_id == run_id).order_by(RunEpoch.epoch))


def test_a_training_whose_worker_is_killed_ends_with_the_same_parameters(
    winnow: Winnow, data_set: int, run: int, dice: random.Random
) -> None:
    run_id, job_id = start_run(winnow, data_set)
    for share in sorted(dice.uniform(0.05, 0.8) for _ in range(2)):
        winnow.wait_for_share(job_id, share)
        winnow.kill("worker")
    job = winnow.wait_for_end(job_id)
    assert job.attempts > 1
    assert hashes(winnow, run_id) == hashes(winnow, run)
    assert len(hashes(winnow, run_id)[1]) == EPOCHS
    assert winnow.times_finished(job_id) == 1


def test_a_training_goes_on_undisturbed_while_web_and_broker_are_killed(
    winnow: Winnow, data_set: int, run: int, dice: random.Random
) -> None:
    run_id, job_id = start_run(winnow, data_set)
    for name in ("web", "broker"):
        winnow.wait_for_share(job_id, dice.uniform(0.05, 0.6))
        winnow.kill(name)
    job = winnow.wait_for_end(job_id)
    assert job.attempts == 1
    assert hashes(winnow, run_id) == hashes(winnow, run)
    wait_until(lambda: answers(winnow), 20, "the web to be back")


def answers(winnow: Winnow) -> bool:
    try:
        return winnow.client.get("/jobs").status_code == 200
    except httpx2.TransportError:
        return False


DECIDED = {"decision", "decision_label", "decision_id", "decided_by", "decided_at", "change"}


def suggestions(winnow: Winnow, review_id: int) -> list[tuple[Any, ...]]:
    """What the scoring wrote, without what people decide afterwards."""
    columns = [column for column in Suggestion.__table__.columns if column.name not in DECIDED | {"review_id"}]
    return winnow.rows(select(*columns).where(Suggestion.review_id == review_id).order_by(Suggestion.position))


def test_a_scoring_whose_worker_is_killed_fills_the_same_review_once(winnow: Winnow, run: int, review: int, dice: random.Random) -> None:
    disturbed = winnow.post(f"/runs/{run}/reviews")
    job_id = disturbed["job"]["id"]
    winnow.wait_for_share(job_id, dice.uniform(0.0, 0.9))
    winnow.kill("worker")
    winnow.wait_for_end(job_id)
    expected = suggestions(winnow, review)
    assert expected
    assert suggestions(winnow, disturbed["id"]) == expected
    scores = winnow.rows(select(func.count()).select_from(Score).join(Scoring).where(Scoring.job_id == job_id))
    assert scores == [(2 * len(expected),)]
    assert winnow.times_finished(job_id) == 1


def test_decisions_sent_again_after_the_web_was_killed_count_once(winnow: Winnow, review: int, dice: random.Random) -> None:
    images = [image_id for (image_id,) in winnow.rows(select(Suggestion.image_id).where(Suggestion.review_id == review).limit(60))]
    kills = set(dice.sample(range(len(images)), 2))
    for number, image_id in enumerate(images):
        killer = threading.Timer(dice.uniform(0.0, 0.01), winnow.kill, ["web"])
        if number in kills:
            killer.start()
        decide(winnow, review, image_id)
        if number in kills:
            killer.join()
    made = winnow.rows(select(Decision.image_id, Decision.client_key, Decision.action).where(Decision.review_id == review))
    assert sorted(made) == sorted((image_id, f"key {image_id}", "keep") for image_id in images)
    assert winnow.client.get(f"/reviews/{review}").json()["progress"]["keep"] == len(images)


def decide(winnow: Winnow, review_id: int, image_id: int) -> None:
    """As a browser does it: send, and send the same again until there is an answer."""
    body = {"client_key": f"key {image_id}", "image_id": image_id, "action": "keep"}

    def sent() -> bool:
        try:
            return winnow.client.post(f"/reviews/{review_id}/decisions", json=body).status_code == 200
        except httpx2.TransportError:
            return False

    wait_until(sent, 30, f"the decision on image {image_id} to be saved")


def test_an_import_whose_worker_is_killed_has_each_image_once(winnow: Winnow, data_set: int, dice: random.Random) -> None:
    made = winnow.post("/data-sets", name="Disturbed", source={"kind": "sample"}, seed=1)
    wait_until(lambda: winnow.job(made["job"]["id"]).state != "queued", 30, "the import to start")
    time.sleep(dice.uniform(0.0, 0.5))
    winnow.kill("worker")
    winnow.wait_for_end(made["job"]["id"])

    def images(data_set_id: int) -> list[tuple[Any, ...]]:
        columns = (Image.row, Image.content_hash, Image.split, Image.label, Image.true_label)
        return winnow.rows(select(*columns).where(Image.data_set_id == data_set_id).order_by(Image.row))

    assert images(data_set)
    assert images(made["id"]) == images(data_set)


def test_queued_trainings_survive_whatever_is_killed(winnow: Winnow, data_set: int, run: int, dice: random.Random) -> None:
    started = [start_run(winnow, data_set) for _ in range(2)]
    for name in dice.sample(["worker", "web", "broker"], 3):
        time.sleep(dice.uniform(0.2, 1.5))
        winnow.kill(name)
    for run_id, job_id in started:
        winnow.wait_for_end(job_id)
        assert hashes(winnow, run_id) == hashes(winnow, run)
        assert winnow.times_finished(job_id) == 1


def values(winnow: Winnow, review_id: int) -> list[tuple[Any, ...]]:
    """The averaged scores of a review, image by image."""
    of_review = select(Review.accuracy_scoring_id).where(Review.id == review_id).scalar_subquery()
    return winnow.rows(select(Score.image_id, Score.value).where(Score.scoring_id == of_review).order_by(Score.image_id))


def wait_for_review(winnow: Winnow, review_id: int) -> None:
    state = select(Review.state).where(Review.id == review_id)
    wait_until(lambda: winnow.rows(state) == [("ready",)], 240, f"the average of review {review_id}")


def test_an_average_survives_whatever_is_killed_and_counts_each_run_once(winnow: Winnow, run: int, dice: random.Random) -> None:
    disturbed = winnow.post(f"/runs/{run}/reviews", method="tracin", runs=3)["id"]
    for name in dice.sample(["worker", "worker", "worker", "web", "broker"], 5):
        time.sleep(dice.uniform(0.2, 3.0))
        winnow.kill(name)
    wait_for_review(winnow, disturbed)
    wait_until(lambda: answers(winnow), 20, "the web to be back")
    # The same trainings, averaged once more with nobody in the way.
    undisturbed = winnow.post(f"/runs/{run}/reviews", method="tracin", runs=3)["id"]
    wait_for_review(winnow, undisturbed)
    assert values(winnow, disturbed) == values(winnow, undisturbed) != []
    assert winnow.rows(select(func.count()).select_from(Run).where(Run.repeats_run_id == run)) == [(2,)]
    parts = select(func.count()).select_from(Score).join(Scoring).where(Scoring.review_id == disturbed)
    assert winnow.rows(parts) == [(3 * len(values(winnow, disturbed)),)]
    jobs = winnow.rows(select(Job.id).where(Job.kind == "score", Job.subject_id == disturbed))
    assert [winnow.times_finished(job_id) for (job_id,) in jobs] == [1]
