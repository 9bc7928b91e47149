"""PostgreSQL is taken away in the middle of real jobs: nothing fails, and no attempt is used up.

`pytest tests/faults/test_database_away.py --outage 60` takes it away for a minute.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from backend.core.models import Run, RunEpoch, Suggestion
from tests import servers
from tests.running import Winnow, until_it_hits, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.slow]

EPOCHS = 6
SHOWN = (Suggestion.image_id, Suggestion.position, Suggestion.accuracy_value)


class Site:
    """Winnow on a PostgreSQL that can be stopped."""

    def __init__(self, winnow: Winnow, server: servers.Postgres, outage: float) -> None:
        self.winnow = winnow
        self.server = server
        self.outage = outage

    def take_away(self, job_id: int) -> bool:
        """Stop PostgreSQL for a while; returns True if the job was running then."""
        was_on = self.winnow.is_on(job_id)
        self.server.stop()
        time.sleep(self.outage)
        self.server.start()
        return was_on

    def check_end(self, job_id: int) -> None:
        """The job is done, at its first attempt, once."""
        job = self.winnow.wait_for_end(job_id)
        assert (job.state, job.attempts, job.attempts_without_progress <= 1) == ("done", 1, True)
        assert self.winnow.times_finished(job_id) == 1

    def post(self, path: str, **body: object) -> dict[str, Any]:
        wait_until(self.winnow.answers, 30, "the web to be back")
        return self.winnow.post(path, **body)

    def train(self, data_set: int, epochs: int = EPOCHS) -> tuple[int, int]:
        made = self.post(f"/data-sets/{data_set}/runs", seed=5, epochs=epochs)
        return int(made["id"]), int(made["job"]["id"])

    def hashes(self, run_id: int) -> list[tuple[Any, ...]]:
        rows = select(RunEpoch.epoch, RunEpoch.params_hash).where(RunEpoch.run_id == run_id)
        return self.winnow.rows(rows.order_by(RunEpoch.epoch))

    def suggestions(self, review_id: int) -> list[tuple[Any, ...]]:
        rows = select(*SHOWN).where(Suggestion.review_id == review_id)
        return self.winnow.rows(rows.order_by(Suggestion.position))

    def trainings(self, cleansing_id: int) -> list[tuple[Any, ...]]:
        columns = (Run.protocol, Run.seed, Run.arm, Run.params_hash, Run.test_accuracy)
        rows = select(*columns).where(Run.cleansing_id == cleansing_id)
        return sorted(self.winnow.rows(rows))


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Site]:
    with servers.postgres_server() as server:
        winnow = Winnow(tmp_path_factory.mktemp("away"), database_url=server.url)
        yield Site(winnow, server, float(request.config.getoption("outage")))
        winnow.close()


@pytest.fixture(scope="module")
def data_set(site: Site) -> int:
    made = site.post("/data-sets", name="Undisturbed", source={"kind": "sample"}, seed=1)
    site.winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture(scope="module")
def run(site: Site, data_set: int) -> int:
    run_id, job_id = site.train(data_set)
    site.winnow.wait_for_end(job_id)
    return run_id


@pytest.fixture(scope="module")
def review(site: Site, run: int) -> int:
    made = site.post(f"/runs/{run}/reviews", method="sgd_influence")
    site.winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


def test_a_training_waits_for_the_database_and_ends_with_the_same_parameters(
    site: Site, data_set: int, run: int
) -> None:
    def hit() -> bool:
        run_id, job_id = site.train(data_set)
        site.winnow.wait_for_share(job_id, 0.2)
        was_on = site.take_away(job_id)
        site.check_end(job_id)
        assert site.hashes(run_id) == site.hashes(run) != []
        return was_on

    until_it_hits(hit)


def test_a_scoring_waits_for_the_database_and_fills_the_same_review(
    site: Site, data_set: int, review: int
) -> None:
    def hit() -> bool:
        # A run of its own, with the same parameters: a run is scored by a method once.
        again, training = site.train(data_set)
        site.winnow.wait_for_end(training)
        made = site.post(f"/runs/{again}/reviews", method="sgd_influence")
        job_id = int(made["job"]["id"])
        site.winnow.wait_for_share(job_id, 0.05)
        was_on = site.take_away(job_id)
        site.check_end(job_id)
        assert site.suggestions(int(made["id"])) == site.suggestions(review) != []
        return was_on

    until_it_hits(hit)


def test_a_verdict_waits_for_the_database_and_comes_from_the_same_trainings(
    site: Site, data_set: int
) -> None:
    run, training = site.train(data_set, epochs=1)  # eleven trainings follow, twice
    site.winnow.wait_for_end(training)
    scored = site.post(f"/runs/{run}/reviews", method="margin")
    site.winnow.wait_for_end(scored["job"]["id"])
    review = int(scored["id"])
    first = [image_id for image_id, *_ in site.suggestions(review)[:30]]
    decisions = {"client_key": "first", "action": "remove", "image_ids": first}
    answer = site.winnow.client.post(f"/reviews/{review}/decisions/bulk", json=decisions)
    assert answer.status_code == 200, answer.text
    undisturbed = site.post(f"/reviews/{review}/cleansings", fresh_seeds=3)
    site.winnow.wait_for_end(undisturbed["job"]["id"])
    last, expected = undisturbed["id"], site.trainings(undisturbed["id"])

    def hit() -> bool:
        nonlocal last
        answer = site.winnow.client.post(f"/cleansings/{last}/roll-back")
        assert answer.status_code == 200, answer.text
        made = site.post(f"/reviews/{review}/cleansings", fresh_seeds=3)
        job_id = int(made["job"]["id"])
        site.winnow.wait_for_share(job_id, 0.3)
        was_on = site.take_away(job_id)
        site.check_end(job_id)
        wait_until(site.winnow.answers, 30, "the web to be back")
        last = made["id"]
        assert site.trainings(last) == expected != []
        return was_on

    until_it_hits(hit)
