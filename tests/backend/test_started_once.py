"""Starting twice opens what was started: two tabs, a double click, a repeated request."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from backend.core.db import Database
from backend.core.models import Base, DataSet, Job, Review, Run, Scoring
from tests.factories import a_data_set, a_run

Rows = Callable[[type[Base]], int]


@pytest.fixture
def blocks(database: Database) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session)


@pytest.fixture
def run(database: Database, blocks: DataSet) -> Run:
    with database.transaction() as session:
        return a_run(session, blocks)


@pytest.fixture
def rows(database: Database) -> Rows:
    """rows(table): how many rows it has."""

    def count(table: type[Base]) -> int:
        with database.transaction(write=False) as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    return count


def start(client: TestClient, address: str, **fields: Any) -> str:
    """Press a form's button; returns where it leads."""
    answer = client.post(address, data=fields, follow_redirects=False)
    assert answer.status_code == 303
    return str(answer.headers["location"])


def end_jobs(database: Database, state: str) -> None:
    with database.transaction() as session:
        session.execute(update(Job).values(state=state))


# ── finding harmful images ────────────────────────────────────────────────────────────────────────


def test_two_tabs_find_harmful_images_in_one_review(
    client: TestClient, run: Run, rows: Rows
) -> None:
    first = start(client, f"/runs/{run.id}/reviews")
    assert start(client, f"/runs/{run.id}/reviews", method="sgd_influence") == first
    made = client.post(f"/api/v1/runs/{run.id}/reviews", json={})
    assert (made.status_code, f"/reviews/{made.json()['id']}") == (202, first)
    assert (rows(Review), rows(Job), rows(Scoring)) == (1, 1, 2)


def test_the_same_scores_again_open_the_review_that_has_them(
    client: TestClient, run: Run, rows: Rows, database: Database
) -> None:
    first = start(client, f"/runs/{run.id}/reviews")
    later = start(client, f"/runs/{run.id}/reviews", span="all_epochs")
    end_jobs(database, "done")
    with database.transaction() as session:
        session.execute(update(Review).values(state="ready"))
    assert start(client, f"/runs/{run.id}/reviews") == first
    made = client.post(f"/api/v1/runs/{run.id}/reviews", json={"span": "last_epoch"}).json()
    assert f"/reviews/{made['id']}" == first
    assert later != first
    assert rows(Review) == 2


@pytest.mark.parametrize(
    "other", [{"method": "margin"}, {"span": "all_epochs"}, {"damping": "auto"}, {"runs": "2"}]
)
def test_other_options_make_another_review(
    client: TestClient, run: Run, rows: Rows, other: dict[str, str]
) -> None:
    first = start(client, f"/runs/{run.id}/reviews")
    second = start(client, f"/runs/{run.id}/reviews", **other)
    assert second != first
    assert start(client, f"/runs/{run.id}/reviews", **other) == second
    assert rows(Review) == 2


@pytest.mark.parametrize("runs", ["1", "3"])
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_scoring_that_ended_without_scores_is_begun_again(
    client: TestClient, run: Run, database: Database, state: str, runs: str
) -> None:
    first = start(client, f"/runs/{run.id}/reviews", runs=runs)
    end_jobs(database, state)
    assert start(client, f"/runs/{run.id}/reviews", runs=runs) != first


# ── training ──────────────────────────────────────────────────────────────────────────────────────


def test_two_tabs_start_one_training_also_while_the_worker_completes_its_recipe(
    client: TestClient, blocks: DataSet, rows: Rows, database: Database
) -> None:
    address = f"/datasets/{blocks.id}/runs"
    first = start(client, address, epochs="3")
    with database.transaction() as session:
        session.execute(update(Job).values(state="running"))
        session.execute(update(Run).values(recipe={"epochs": 3, "network": "mnist"}))
    assert start(client, address, epochs="3") == first
    made = client.post(f"/api/v1/data-sets/{blocks.id}/runs", json={"epochs": 3})
    assert (made.status_code, f"/runs/{made.json()['id']}") == (202, first)
    # The default may be another number of epochs.
    assert start(client, address) != first
    assert start(client, address, epochs="3", seed="1") != first
    assert rows(Run) == 3


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_a_training_that_has_ended_is_not_in_the_way(
    client: TestClient, blocks: DataSet, database: Database, state: str
) -> None:
    address = f"/datasets/{blocks.id}/runs"
    first = start(client, address)
    end_jobs(database, state)
    assert start(client, address) != first


# ── importing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["queued", "running", "asking"])
def test_two_tabs_take_the_sample_once(
    client: TestClient, rows: Rows, database: Database, state: str
) -> None:
    first = start(client, "/datasets", kind="sample")
    end_jobs(database, state)
    assert start(client, "/datasets", kind="sample") == first
    made = client.post("/api/v1/data-sets", json={"source": {"kind": "sample"}}).json()
    assert f"/datasets/{made['id']}" == first
    assert rows(DataSet) == 1
    end_jobs(database, "failed")
    assert start(client, "/datasets", kind="sample") != first


@pytest.mark.parametrize("other", [{"name": "mine"}, {"seed": 1}, {"side": 32}])
def test_another_import_of_the_same_source_is_another_data_set(
    client: TestClient, rows: Rows, other: dict[str, Any]
) -> None:
    source = {"source": {"kind": "sample"}}
    client.post("/api/v1/data-sets", json=source)
    client.post("/api/v1/data-sets", json=source | other)
    assert rows(DataSet) == 2


# ── numbers and states ────────────────────────────────────────────────────────────────────────────


def test_trainings_are_numbered_within_their_data_set(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        other = a_data_set(session, name="Other", per_class=2)
        a_run(session, other)
        first = a_run(session, blocks)
        repeat = a_run(session, blocks, seed=7)
        repeat.repeats_run_id = first.id
        second = a_run(session, blocks)
    for run, title in (
        (first, "Training 1"),
        (second, "Training 2"),
        (repeat, "Training 1 with seed 7"),
    ):
        assert f"<h1>{title}</h1>" in client.get(f"/runs/{run.id}").text
    listed = client.get(f"/api/v1/data-sets/{blocks.id}/runs").json()["items"]
    assert [(run["id"], run["number"]) for run in listed] == [(second.id, 2), (first.id, 1)]
    assert client.get(f"/api/v1/runs/{repeat.id}").json()["number"] is None
    page = client.get(f"/datasets/{blocks.id}").text
    assert f'href="/runs/{second.id}">Continue with training 2' in page
    assert f'href="/runs/{first.id}">Training 1</a>' in page


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_a_runs_state_is_its_jobs_until_it_is_done(
    client: TestClient, database: Database, blocks: DataSet, state: str
) -> None:
    run_id = client.post(f"/api/v1/data-sets/{blocks.id}/runs", json={}).json()["id"]
    end_jobs(database, state)
    assert client.get(f"/api/v1/runs/{run_id}").json()["state"] == state
    listed = client.get(f"/api/v1/data-sets/{blocks.id}/runs").json()["items"]
    assert [run["state"] for run in listed] == [state]
