"""The demo's journey, against the API; tests/loop starts the whole demo."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.cli import journey as demo
from backend.cli.client import Client, JobEnded, Refused
from backend.core.db import Database
from backend.core.models import Job, User
from backend.core.settings import Settings
from tests.factories import a_data_set, a_job


@pytest.fixture
def client(api_client: TestClient) -> Client:
    """The demo's client, speaking to the application of this test."""
    made = Client("http://testserver", "")
    made._http.close()
    made._http = api_client
    return made


def begin_import(client: Client) -> dict[str, Any]:
    return client.post("/data-sets", {"name": "Digits", "source": {"kind": "sample"}})


def end(database: Database, state: str = "done", **values: object) -> Callable[[], None]:
    """Ends every queued job, as a worker would."""

    def act() -> None:
        with database.transaction() as session:
            for job in session.scalars(select(Job).where(Job.state == "queued")):
                job.state = state
                for name, value in values.items():
                    setattr(job, name, value)

    return act


def test_a_step_is_made_once_and_remembered_before_it_is_waited_for(
    client: Client, database: Database
) -> None:
    kept: list[dict[str, int]] = []
    made = demo.Journey(client, {}, lambda ids: (kept.append(dict(ids)), end(database)()))
    assert made.step("data_set", lambda: begin_import(client), "import") == 1
    assert kept == [{"data_set": 1, "data_set_job": 1}]
    assert made.step("data_set", lambda: pytest.fail("made twice"), "import") == 1


def test_a_step_whose_job_fails_ends_the_demo_with_the_jobs_sentence(
    client: Client, database: Database
) -> None:
    fail = end(database, "failed", error="There are no images in it.")
    made = demo.Journey(client, {}, lambda _: fail())
    with pytest.raises(JobEnded, match="There are no images in it"):
        made.prepare_sample()


def test_a_second_start_goes_on_with_what_is_still_there(
    client: Client, database: Database
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session)
        jobs = [
            a_job(session, kind=kind, state="done", data_set_id=data_set.id).id
            for kind in ("import", "train", "score")
        ]
    ids = dict(zip(("data_set", "run", "review"), (1, 2, 3), strict=True)) | dict(
        zip(("data_set_job", "run_job", "review_job"), jobs, strict=True)
    )
    assert demo.still_there(client, ids) == ids
    assert demo.still_there(client, {}) == {}
    assert demo.still_there(client, {"data_set": 1, "data_set_job": jobs[0]}) == {
        "data_set": 1,
        "data_set_job": jobs[0],
    }


def test_a_data_set_that_somebody_deleted_is_made_anew_with_all_that_hung_on_it(
    client: Client, database: Database
) -> None:
    with database.transaction() as session:
        job = a_job(session, state="done")
    assert (
        demo.still_there(client, {"data_set": 9, "data_set_job": 999, "run": 1, "run_job": job.id})
        == {}
    )


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_did_not_get_done_is_tried_again_at_the_next_start(
    client: Client, database: Database, state: str
) -> None:
    with database.transaction() as session:
        job = a_job(session, state=state)
    assert demo.still_there(client, {"data_set": 1, "data_set_job": job.id}) == {
        "data_set": 1,
        "data_set_job": job.id,
    }
    with database.transaction() as session:
        assert session.get_one(Job, job.id).state == "queued"


def test_an_api_that_refuses_for_another_reason_is_no_reason_to_begin_anew(
    client: Client, api_client: TestClient
) -> None:
    api_client.headers["Authorization"] = "Bearer nonsense"
    with pytest.raises(Refused, match="not valid") as refusal:
        demo.still_there(client, {"data_set": 1, "data_set_job": 1})
    assert refusal.value.status == 401


def test_a_login_link_is_for_the_first_owner_and_leads_to_the_public_address(
    database: Database, owner: User, settings: Settings
) -> None:
    public = settings.model_copy(update={"public_url": "https://winnow.example.org/"})
    assert demo.login_link(public, database).startswith("https://winnow.example.org/?token=")
    assert demo.login_link(settings, database, "olga").startswith("http://127.0.0.1:8000/?token=")
