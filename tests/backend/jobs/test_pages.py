"""Jobs over HTTP: pages, the polling fragment, JSON, and permissions."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from backend.core.db import Database
from backend.core.models import Job, JobLogLine, now
from backend.jobs import service

POLL = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/7"}

AddJob = Callable[..., int]


@pytest.fixture
def add_job(database: Database) -> AddJob:
    """Makes a job with a log line; keywords set its columns."""

    def add(**values: object) -> int:
        with database.transaction() as session:
            job = service.create(
                session,
                None,
                kind="train",
                title="Train <b>digits</b>",
                subject_id=7,
                data_set_id=None,
            )
            if values:
                session.execute(update(Job).where(Job.id == job.id).values(**values))
            session.add(JobLogLine(job_id=job.id, message="Read <img src=x> 10 images"))
        return job.id

    return add


def state_of(database: Database, job_id: int) -> str:
    with database.transaction(write=False) as session:
        return session.get_one(Job, job_id).state


RUNNING = {
    "state": "running",
    "claim": "x",
    "progress_done": 25,
    "progress_total": 100,
    "progress_message": "Epoch 2 of 8",
}


def test_a_waiting_job_says_on_page_and_api_what_is_ahead(
    client: TestClient, add_job: AddJob
) -> None:
    running = add_job(**RUNNING, seconds_left=725.0)
    job_id = add_job()
    sentence = "Waiting behind: Train <b>digits</b>, about 12 min left."
    assert client.get(f"/api/v1/jobs/{job_id}").json()["waiting"] == sentence
    items = client.get("/api/v1/jobs").json()["items"]
    assert [item["waiting"] for item in items] == [sentence, None]
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/progress"):
        assert "Waiting behind: Train &lt;b&gt;digits&lt;/b&gt;, about" in client.get(path).text
    assert "Waiting behind" not in client.get(f"/jobs/{running}").text


def test_without_jobs_the_list_says_how_the_first_one_comes_about(client: TestClient) -> None:
    page = client.get("/jobs")
    assert page.status_code == 200
    assert "No jobs yet" in page.text


def test_the_list_shows_newest_first_and_escapes_titles(
    client: TestClient, add_job: AddJob
) -> None:
    first, second = add_job(), add_job()
    text = client.get("/jobs").text
    assert text.index(f"/jobs/{second}") < text.index(f'/jobs/{first}"')
    assert "Train &lt;b&gt;digits" in text
    assert "<b>digits" not in text


def test_the_list_can_be_narrowed_to_a_state(client: TestClient, add_job: AddJob) -> None:
    queued, failed = add_job(), add_job(state="failed", error="It broke.")
    text = client.get("/jobs?state=failed").text
    assert f'href="/jobs/{failed}"' in text
    assert f'href="/jobs/{queued}"' not in text
    assert "No done jobs" in client.get("/jobs?state=done").text


def test_long_lists_are_read_page_by_page(client: TestClient, add_job: AddJob) -> None:
    ids = [add_job() for _ in range(51)]
    first = client.get("/jobs").text
    assert f'href="/jobs?after={ids[1]}"' in first
    assert f'href="/jobs/{ids[0]}"' in client.get(f"/jobs?after={ids[1]}").text


def test_a_jobs_page_shows_its_log_and_what_it_works_for(
    client: TestClient, add_job: AddJob
) -> None:
    text = client.get(f"/jobs/{add_job()}").text
    assert "Read &lt;img src=x&gt; 10 images" in text
    assert 'href="/runs/7"' in text


def test_an_active_jobs_fragment_asks_for_itself_and_shows_how_far_it_is(
    client: TestClient, add_job: AddJob
) -> None:
    job_id = add_job(**RUNNING, seconds_left=125.0)
    answer = client.get(f"/jobs/{job_id}/progress", headers=POLL)
    assert f'hx-get="/jobs/{job_id}/progress"' in answer.text
    assert 'value="25" max="100"' in answer.text
    assert "Epoch 2 of 8" in answer.text
    assert "2 min" in answer.text
    assert "HX-Refresh" not in answer.headers


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_when_the_job_has_ended_the_page_is_loaded_anew_and_asks_no_more(
    client: TestClient, add_job: AddJob, state: str
) -> None:
    job_id = add_job(
        state=state, error="It broke." if state == "failed" else None, finished_at=now()
    )
    assert client.get(f"/jobs/{job_id}/progress", headers=POLL).headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in client.get(f"/jobs/{job_id}").text


def test_a_failed_job_says_why_and_offers_another_try(client: TestClient, add_job: AddJob) -> None:
    job_id = add_job(state="failed", error="The disk is full.")
    text = client.get(f"/jobs/{job_id}").text
    assert "The disk is full." in text
    assert f'action="/jobs/{job_id}/retry"' in text


def test_the_buttons_return_to_the_page_they_stood_on(client: TestClient, add_job: AddJob) -> None:
    job_id = add_job(**RUNNING)
    fragment = client.get(f"/jobs/{job_id}/progress", headers=POLL).text
    assert 'name="origin" value="/runs/7"' in fragment
    answer = client.post(
        f"/jobs/{job_id}/cancel", data={"origin": "/runs/7"}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/7")
    assert "Stopping" in client.get(f"/jobs/{job_id}/progress", headers=POLL).text


@pytest.mark.parametrize(
    "origin", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", ""]
)
def test_the_buttons_never_lead_to_another_site(
    client: TestClient, add_job: AddJob, origin: str
) -> None:
    job_id = add_job()
    assert (
        client.post(
            f"/jobs/{job_id}/cancel", data={"origin": origin}, follow_redirects=False
        ).headers["location"]
        == f"/jobs/{job_id}"
    )


def test_a_cancelled_job_can_be_tried_again(
    client: TestClient, add_job: AddJob, database: Database
) -> None:
    job_id = add_job()
    client.post(f"/jobs/{job_id}/cancel", follow_redirects=False)
    assert state_of(database, job_id) == "cancelled"
    client.post(f"/jobs/{job_id}/retry", follow_redirects=False)
    assert state_of(database, job_id) == "queued"


@pytest.mark.parametrize("state", ["queued", "running"])
def test_going_on_in_a_second_tab_leads_to_the_job_that_goes_on_already(
    client: TestClient, add_job: AddJob, state: str
) -> None:
    job_id = add_job(state=state)
    answer = client.post(
        f"/jobs/{job_id}/retry", data={"origin": "/runs/7"}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/7")
    assert client.post(f"/api/v1/jobs/{job_id}/retry").status_code == 409


def test_a_job_that_is_done_is_not_tried_again(client: TestClient, add_job: AddJob) -> None:
    answer = client.post(f"/jobs/{add_job(state='done')}/retry", follow_redirects=False)
    assert answer.status_code == 409
    assert "Only a job that failed or was cancelled" in answer.text


@pytest.mark.parametrize(
    ("kind", "sentence", "button"),
    [
        ("import", "Nothing half-done was kept", "Try again"),
        ("score", "Nothing half-done was kept", "Try again"),
        ("train", "What it had done is kept", "Continue"),
        ("cleanse", "What it had done is kept", "Continue"),
    ],
)
def test_a_stopped_job_says_what_is_kept(
    client: TestClient, add_job: AddJob, database: Database, kind: str, sentence: str, button: str
) -> None:
    job_id = add_job(state="cancelled")
    with database.transaction() as session:
        session.get_one(Job, job_id).kind = kind
    text = client.get(f"/jobs/{job_id}").text
    assert sentence in text
    assert f">{button}</button>" in text


def test_a_reviewer_sees_jobs_but_neither_stops_nor_repeats_them(
    reviewer_client: TestClient, add_job: AddJob, database: Database
) -> None:
    job_id = add_job()
    text = reviewer_client.get(f"/jobs/{job_id}").text
    assert '<form method="post" action="/jobs/' not in text
    assert reviewer_client.post(f"/jobs/{job_id}/cancel", follow_redirects=False).status_code == 403
    assert reviewer_client.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 403
    assert reviewer_client.post(f"/api/v1/jobs/{job_id}/retry").status_code == 403
    assert state_of(database, job_id) == "queued"


def test_nobody_sees_jobs_without_signing_in(anonymous_client: TestClient, add_job: AddJob) -> None:
    job_id = add_job()
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/progress", f"/jobs/{job_id}/log"):
        assert anonymous_client.get(path, follow_redirects=False).status_code != 200
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{job_id}", f"/api/v1/jobs/{job_id}/log"):
        assert anonymous_client.get(path).status_code == 401


def test_the_api_lists_jobs_by_cursor(client: TestClient, add_job: AddJob) -> None:
    ids = [add_job() for _ in range(3)]
    first = client.get("/api/v1/jobs?limit=2").json()
    assert [item["id"] for item in first["items"]] == [ids[2], ids[1]]
    second = client.get(f"/api/v1/jobs?limit=2&after={first['next']}").json()
    assert ([item["id"] for item in second["items"]], second["next"]) == ([ids[0]], None)


def test_the_api_shows_progress_and_log(reviewer_client: TestClient, add_job: AddJob) -> None:
    job_id = add_job(**RUNNING)
    job = reviewer_client.get(f"/api/v1/jobs/{job_id}").json()
    assert (job["state"], job["progress_done"], job["progress_total"]) == ("running", 25, 100)
    log = reviewer_client.get(f"/api/v1/jobs/{job_id}/log").json()
    assert [line["message"] for line in log["items"]] == ["Read <img src=x> 10 images"]


def test_the_api_cancels_and_retries(client: TestClient, add_job: AddJob) -> None:
    job_id = add_job()
    for _ in range(2):  # the second time changes nothing
        assert client.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/v1/jobs/{job_id}/retry").json()["state"] == "queued"


def test_an_unknown_job_is_a_problem_with_details(client: TestClient) -> None:
    answer = client.get("/api/v1/jobs/99")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert client.get("/jobs/99").status_code == 404


def test_an_unknown_state_is_refused(client: TestClient) -> None:
    assert client.get("/api/v1/jobs?state=sleeping").status_code == 422
