"""A cancel ends every kind of job within five seconds, wherever it is."""

import random
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from backend.core.models import Job, Suggestion
from tests.running import Winnow, until_it_hits, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SECONDS = 5.0
# Long enough to be cancelled in the middle.
LONG = {"seed": 7, "epochs": 200}


@pytest.fixture(scope="module")
def winnow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Winnow]:
    winnow = Winnow(tmp_path_factory.mktemp("cancel"))
    yield winnow
    winnow.close()


@pytest.fixture(scope="module")
def data_set(winnow: Winnow) -> int:
    made = winnow.post("/data-sets", name="D", source={"kind": "sample"}, seed=1)
    winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture(scope="module")
def run(winnow: Winnow, data_set: int) -> int:
    made = winnow.post(f"/data-sets/{data_set}/runs", seed=5, epochs=8)
    winnow.wait_for_end(made["job"]["id"])
    return int(made["id"])


@pytest.fixture(scope="module")
def review(winnow: Winnow, run: int) -> int:
    made = winnow.post(f"/runs/{run}/reviews", method="margin")
    winnow.wait_for_end(made["job"]["id"])
    first = winnow.rows(select(Suggestion.image_id).order_by(Suggestion.position).limit(30))
    decisions = {"client_key": "a", "action": "remove", "image_ids": [row[0] for row in first]}
    answer = winnow.client.post(f"/reviews/{made['id']}/decisions/bulk", json=decisions)
    assert answer.status_code == 200, answer.text
    return int(made["id"])


def cancel_in_the_middle(winnow: Winnow, job_id: int, dice: random.Random) -> bool:
    """Cancel a running job at a random moment; returns True if it was running then."""
    wait_until(lambda: winnow.job(job_id).state != "queued", 30, f"job {job_id} to start")
    time.sleep(dice.uniform(0.0, 1.5))
    began = time.monotonic()
    winnow.client.post(f"/jobs/{job_id}/cancel")
    wait_until(lambda: not winnow.is_on(job_id), 60, f"job {job_id} to end")
    seconds = time.monotonic() - began
    job = winnow.job(job_id)
    print(f"{job.kind}: {job.state} after {seconds:.2f} s")
    if job.state != "cancelled":
        return False
    assert seconds < SECONDS
    return True


# An explanation of the sample takes a third of a second: no cancel meets it.
KINDS = ["import", "train", "score", "cleanse", "map"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_job_ends_in_time(
    winnow: Winnow, data_set: int, run: int, review: int, kind: str
) -> None:
    dice = random.Random(0)
    paths = {
        "import": ("/data-sets", {"source": {"kind": "sample"}}),
        "train": (f"/data-sets/{data_set}/runs", LONG),
        "score": (f"/runs/{run}/reviews", {"method": "marginal_influence", "span": "all_epochs"}),
        "cleanse": (f"/reviews/{review}/cleansings", {"fresh_seeds": 3}),
        "map": (f"/reviews/{review}/map", {}),
    }
    path, body = paths[kind]

    def hit() -> bool:
        named = {"name": f"Data set {time.monotonic()}"} if kind == "import" else {}
        answer = winnow.client.post(path, json=body | named)
        assert answer.status_code in (200, 202), answer.text
        ((job_id,),) = winnow.rows(select(Job.id).order_by(Job.id.desc()).limit(1))
        return cancel_in_the_middle(winnow, job_id, dice)

    until_it_hits(hit)
