"""A storm of kill -9 over worker, web, broker and all of them, while jobs run and a person decides.

`pytest tests/faults/test_kill_storm.py --kills 200 --timeout 3600` for a long storm.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2
import pytest
from sqlalchemy import select

from backend.core.models import Decision, Job, Review, Run, Suggestion
from tests.running import Winnow, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

EPOCHS = 6
VICTIMS = ("worker", "worker", "web", "broker", "all")
SHOWN = (Suggestion.image_id, Suggestion.position, Suggestion.accuracy_value)


@dataclass
class Person:
    """Someone who decides on image after image, and notes what was acknowledged."""

    winnow: Winnow
    review: int
    images: list[int]
    acknowledged: list[int] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def decide(self) -> None:
        for image_id in self.images:
            while not self.stopped.is_set() and not self._sent(image_id):
                time.sleep(0.05)
            if self.stopped.wait(0.05):
                return
            self.acknowledged.append(image_id)

    def _sent(self, image_id: int) -> bool:
        body = {"client_key": f"key {image_id}", "image_id": image_id, "action": "keep"}
        try:
            answer = self.winnow.client.post(f"/reviews/{self.review}/decisions", json=body)
        except httpx2.TransportError:
            return False
        return answer.status_code == 200


@pytest.fixture(scope="module")
def winnow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Winnow]:
    winnow = Winnow(tmp_path_factory.mktemp("storm"), max_attempts=10)
    yield winnow
    winnow.close()


def post(winnow: Winnow, path: str, **body: object) -> tuple[int, int]:
    """POST until the web answers; returns the ids of the subject and of its job."""
    wait_until(winnow.answers, 30, "the web to answer")
    made = winnow.post(path, **body)
    return int(made["id"]), int(made["job"]["id"])


def start_work(winnow: Winnow, data_set: int) -> None:
    """Queue the scoring of a run that has none, else another training like the first."""
    scored = select(Review.run_id)
    left = winnow.rows(select(Run.id).where(Run.state == "done", Run.id.not_in(scored)))
    # The web may be killed in the middle: then nobody knows whether the job is there.
    with suppress(httpx2.TransportError):
        if left:
            post(winnow, f"/runs/{left[0][0]}/reviews", method="sgd_influence")
        else:
            post(winnow, f"/data-sets/{data_set}/runs", seed=5, epochs=EPOCHS)


def strike(winnow: Winnow, victim: str) -> int:
    """Kill the victim; returns the number of processes."""
    names = ("worker", "web", "broker") if victim == "all" else (victim,)
    for name in names:
        winnow.kill(name)
    return len(names)


def test_a_storm_of_kills_loses_and_doubles_nothing(
    winnow: Winnow, request: pytest.FixtureRequest
) -> None:
    wanted = int(request.config.getoption("kills"))
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    dice = random.Random(seed)
    data_set, job_id = post(winnow, "/data-sets", name="D", source={"kind": "sample"}, seed=1)
    winnow.wait_for_end(job_id)
    run, job_id = post(winnow, f"/data-sets/{data_set}/runs", seed=5, epochs=EPOCHS)
    winnow.wait_for_end(job_id)
    review, job_id = post(winnow, f"/runs/{run}/reviews", method="sgd_influence")
    winnow.wait_for_end(job_id)
    images = [row[0] for row in winnow.rows(select(Suggestion.image_id))]
    person = Person(winnow, review, images)
    deciding = threading.Thread(target=person.decide)
    deciding.start()
    killed: Counter[str] = Counter()
    on = select(Job.id).where(Job.state.in_(("queued", "running")))
    try:
        while killed.total() < wanted:
            if winnow.rows(on) == []:
                start_work(winnow, data_set)
            time.sleep(dice.uniform(0.5, 6.0))
            victim = dice.choice(VICTIMS)
            killed[victim] += strike(winnow, victim)
    finally:
        person.stopped.set()
        deciding.join(60)
    print(f"killed {killed.total()} processes: {dict(killed)}")
    wait_until(lambda: winnow.rows(on) == [], 180, "all jobs to end")
    check_jobs(winnow, review)
    check_decisions(winnow, person)


def check_jobs(winnow: Winnow, review: int) -> None:
    """All are done, none was given up, each once, with the same results."""
    jobs = winnow.rows(select(Job.id, Job.state, Job.error))
    assert {state for _, state, _ in jobs} == {"done"}, jobs
    assert [winnow.times_finished(job_id) for job_id, _, _ in jobs] == [1] * len(jobs)
    hashes = {value for (value,) in winnow.rows(select(Run.params_hash))}
    assert len(hashes) == 1
    expected = winnow.rows(
        select(*SHOWN).where(Suggestion.review_id == review).order_by(Suggestion.position)
    )
    for (other,) in winnow.rows(select(Review.id)):
        shown = select(*SHOWN).where(Suggestion.review_id == other)
        assert winnow.rows(shown.order_by(Suggestion.position)) == expected
    print(f"{len(jobs)} jobs")


def check_decisions(winnow: Winnow, person: Person) -> None:
    """Each acknowledged decision is there, once."""
    made = winnow.rows(select(Decision.image_id).where(Decision.review_id == person.review))
    counted = Counter(image_id for (image_id,) in made)
    assert set(person.acknowledged) <= set(counted)
    assert set(counted.values()) <= {1}
    print(f"{len(person.acknowledged)} decisions")
    assert person.acknowledged
