"""kill -9 of worker, web and broker under `winnow up`, at random moments of real jobs.

Each test proves that it hit running work; otherwise it draws the moments again.
"""

import math
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, update

from backend.core.models import (
    Decision,
    Image,
    Job,
    Review,
    Run,
    RunEpoch,
    Score,
    Scoring,
    Suggestion,
)
from tests.running import Winnow, seconds_of_a_job, until_it_hits, wait_until

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
    """Return the hashes of the final parameters and of each epoch's end."""
    final = winnow.rows(select(Run.params_hash).where(Run.id == run_id))[0][0]
    return final, winnow.rows(
        select(RunEpoch.epoch, RunEpoch.params_hash)
        .where(RunEpoch.run_id == run_id)
        .order_by(RunEpoch.epoch)
    )


def test_a_training_whose_worker_is_killed_ends_with_the_same_parameters(
    winnow: Winnow, data_set: int, run: int, dice: random.Random
) -> None:
    run_id, job_id = start_run(winnow, data_set)
    for lowest, highest in ((0.05, 0.4), (0.4, 0.8)):  # the first always hits
        winnow.wait_for_share(job_id, dice.uniform(lowest, highest))
        winnow.kill("worker")
    job = winnow.wait_for_end(job_id)
    assert job.attempts > 1
    assert hashes(winnow, run_id) == hashes(winnow, run)
    assert len(hashes(winnow, run_id)[1]) == EPOCHS
    assert winnow.times_finished(job_id) == 1


def test_a_training_goes_on_undisturbed_while_web_and_broker_are_killed(
    winnow: Winnow, data_set: int, run: int, dice: random.Random
) -> None:
    def hit() -> bool:
        run_id, job_id = start_run(winnow, data_set)
        was_on = []
        for name in ("web", "broker"):
            winnow.wait_for_share(job_id, dice.uniform(0.05, 0.6))
            winnow.kill(name)
            was_on.append(winnow.is_on(job_id))
        assert winnow.wait_for_end(job_id).attempts == 1
        assert hashes(winnow, run_id) == hashes(winnow, run)
        wait_until(lambda: winnow.answers(), 20, "the web to be back")
        return all(was_on)

    until_it_hits(hit)


DECIDED = {"decision", "decision_label", "decision_id", "decided_by", "decided_at", "change"}


def suggestions(winnow: Winnow, review_id: int) -> list[tuple[Any, ...]]:
    """Return the scoring's rows, without later decisions."""
    columns = [
        column
        for column in Suggestion.__table__.columns
        if column.name not in DECIDED | {"review_id"}
    ]
    return winnow.rows(
        select(*columns).where(Suggestion.review_id == review_id).order_by(Suggestion.position)
    )


def kill_worker_within(winnow: Winnow, job_id: int, dice: random.Random) -> None:
    """Draw a moment within the time that an earlier job of this kind took."""
    seconds = dice.uniform(0.0, seconds_of_a_job(winnow.database, winnow.job(job_id).kind))
    wait_until(lambda: winnow.job(job_id).state != "queued", 30, f"job {job_id} to start")
    time.sleep(seconds)
    if winnow.is_on(job_id):
        winnow.kill("worker")


def test_a_scoring_whose_worker_is_killed_fills_the_same_review_once(
    winnow: Winnow, run: int, review: int, dice: random.Random
) -> None:
    expected = suggestions(winnow, review)
    assert expected

    def hit() -> bool:
        with winnow.database.transaction() as session:
            # Starting the same scoring again would open its review.
            session.execute(update(Scoring).values(options={"span": "other"}))
        disturbed = winnow.post(f"/runs/{run}/reviews")
        job_id = disturbed["job"]["id"]
        kill_worker_within(winnow, job_id, dice)
        job = winnow.wait_for_end(job_id)
        assert suggestions(winnow, disturbed["id"]) == expected
        scores = winnow.rows(
            select(func.count()).select_from(Score).join(Scoring).where(Scoring.job_id == job_id)
        )
        assert scores == [(2 * len(expected),)]
        assert winnow.times_finished(job_id) == 1
        return job.attempts > 1

    until_it_hits(hit)


def test_decisions_sent_again_after_the_web_was_killed_count_once(
    winnow: Winnow, review: int, dice: random.Random
) -> None:
    images = [
        image_id
        for (image_id,) in winnow.rows(
            select(Suggestion.image_id).where(Suggestion.review_id == review).limit(60)
        )
    ]
    kills = set(
        dice.sample(range(1, len(images)), 20)
    )  # so many only if most miss the decision they are aimed at
    fastest, unanswered = math.inf, 0
    for number, image_id in enumerate(images):
        killer = (
            kill_web_after(winnow, dice.uniform(0.0, fastest))
            if number in kills and unanswered < 2
            else None
        )
        began = time.monotonic()
        times_sent = decide(winnow, review, image_id)
        if killer is None:
            fastest = min(fastest, time.monotonic() - began)
        else:
            killer.join()
            unanswered += times_sent > 1
    assert unanswered == 2
    made = winnow.rows(
        select(Decision.image_id, Decision.client_key, Decision.action).where(
            Decision.review_id == review
        )
    )
    assert sorted(made) == sorted((image_id, f"key {image_id}", "keep") for image_id in images)
    assert winnow.client.get(f"/reviews/{review}").json()["progress"]["keep"] == len(images)


def kill_web_after(winnow: Winnow, seconds: float) -> threading.Timer:
    """Send SIGKILL after so many seconds; find the process first, which may be slow."""
    wait_until(lambda: winnow.answers(), 20, "the web to be there")
    process = winnow.find("web")
    assert process is not None
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    return killer


def decide(winnow: Winnow, review_id: int, image_id: int) -> int:
    """Send until there is an answer, as a browser does. Returns the number of attempts."""
    body = {"client_key": f"key {image_id}", "image_id": image_id, "action": "keep"}
    times_sent = 0

    def sent() -> bool:
        nonlocal times_sent
        times_sent += 1
        try:
            return (
                winnow.client.post(f"/reviews/{review_id}/decisions", json=body).status_code == 200
            )
        except httpx2.TransportError:
            return False

    wait_until(sent, 30, f"the decision on image {image_id} to be saved")
    return times_sent


def test_an_import_whose_worker_is_killed_has_each_image_once(
    winnow: Winnow, data_set: int, dice: random.Random
) -> None:
    def images(data_set_id: int) -> list[tuple[Any, ...]]:
        columns = (Image.row, Image.content_hash, Image.split, Image.label, Image.true_label)
        return winnow.rows(
            select(*columns).where(Image.data_set_id == data_set_id).order_by(Image.row)
        )

    expected = images(data_set)
    assert expected

    def hit() -> bool:
        made = winnow.post("/data-sets", name="Disturbed", source={"kind": "sample"}, seed=1)
        kill_worker_within(winnow, made["job"]["id"], dice)
        job = winnow.wait_for_end(made["job"]["id"])
        assert images(made["id"]) == expected
        return job.attempts > 1

    until_it_hits(hit)


def test_queued_trainings_survive_whatever_is_killed(
    winnow: Winnow, data_set: int, run: int, dice: random.Random
) -> None:
    def hit() -> bool:
        started = [start_run(winnow, data_set) for _ in range(2)]
        was_on = []
        for name in dice.sample(["worker", "web", "broker"], 3):
            time.sleep(dice.uniform(0.2, 1.0))
            winnow.kill(name)
            was_on.append(any(winnow.is_on(job_id) for _, job_id in started))
        for run_id, job_id in started:
            winnow.wait_for_end(job_id)
            assert hashes(winnow, run_id) == hashes(winnow, run)
            assert winnow.times_finished(job_id) == 1
        wait_until(lambda: winnow.answers(), 20, "the web to be back")
        return all(was_on)

    until_it_hits(hit)


def values(winnow: Winnow, review_id: int) -> list[tuple[Any, ...]]:
    """Return the averaged scores of a review by image."""
    of_review = select(Review.accuracy_scoring_id).where(Review.id == review_id).scalar_subquery()
    return winnow.rows(
        select(Score.image_id, Score.value)
        .where(Score.scoring_id == of_review)
        .order_by(Score.image_id)
    )


def wait_for_review(winnow: Winnow, review_id: int) -> None:
    state = select(Review.state).where(Review.id == review_id)
    wait_until(
        lambda: winnow.rows(state) == [("ready",)], 240, f"the average of review {review_id}"
    )


def test_an_average_survives_whatever_is_killed_and_counts_each_run_once(
    winnow: Winnow, run: int, dice: random.Random
) -> None:
    ((before,),) = winnow.rows(select(func.max(Job.id)))
    of_the_average = Job.id > before
    disturbed = winnow.post(f"/runs/{run}/reviews", method="tracin", runs=3)["id"]
    running = select(Job.id).where(of_the_average, Job.state == "running")
    wait_until(lambda: winnow.rows(running) != [], 30, "a job of the average to start")
    for name in (
        "worker",
        *dice.sample(["worker", "worker", "web", "broker"], 4),
    ):  # the first always hits
        time.sleep(dice.uniform(0.0, 3.0))
        winnow.kill(name)
    wait_for_review(winnow, disturbed)
    assert winnow.rows(select(Job.id).where(of_the_average, Job.attempts > 1)) != []
    wait_until(lambda: winnow.answers(), 20, "the web to be back")
    # The same trainings, averaged again without disturbance.
    undisturbed = winnow.post(f"/runs/{run}/reviews", method="tracin", runs=3)["id"]
    wait_for_review(winnow, undisturbed)
    assert values(winnow, disturbed) == values(winnow, undisturbed) != []
    assert winnow.rows(select(func.count()).select_from(Run).where(Run.repeats_run_id == run)) == [
        (2,)
    ]
    parts = (
        select(func.count()).select_from(Score).join(Scoring).where(Scoring.review_id == disturbed)
    )
    assert winnow.rows(parts) == [(3 * len(values(winnow, disturbed)),)]
    jobs = winnow.rows(select(Job.id).where(Job.kind == "score", Job.subject_id == disturbed))
    assert [winnow.times_finished(job_id) for (job_id,) in jobs] == [1]
