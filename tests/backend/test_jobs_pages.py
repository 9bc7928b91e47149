"""Jobs over HTTP: pages, the polling fragment, JSON, and who may do what."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from backend import queue
from backend.db import Database
from backend.jobs import service
from backend.main import create_app
from backend.models import Base, Credential, Job, JobLogLine, User, now
from backend.settings import Settings

NEWLY_ENDED = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/7"}


class Site:
    """The app with an owner and a reviewer, and jobs in any state."""

    def __init__(self, home: Path) -> None:
        settings = Settings(home=home)
        self.database = Database(settings.database)
        Base.metadata.create_all(self.database.engine)
        self.app = create_app(settings)
        for role in ("owner", "reviewer"):
            with self.database.transaction() as session:
                user = User(name=role, role=role)
                session.add(user)
                session.flush()
                secret = hashlib.sha256(role.encode()).hexdigest()
                session.add(Credential(user_id=user.id, kind="api_token", name="test", secret_hash=secret))

    def client(self, role: str) -> TestClient:
        return TestClient(self.app, headers={"Authorization": f"Bearer {role}"}, follow_redirects=False)

    def job(self, **values: object) -> int:
        with self.database.transaction() as session:
            job = service.create(session, None, kind="train", title="Train <b>digits</b>", subject_id=7, data_set_id=None)
            if values:
                session.execute(update(Job).where(Job.id == job.id).values(**values))
            session.add(JobLogLine(job_id=job.id, message="Read <img src=x> 10 images"))
        return job.id

    def state(self, job_id: int) -> str:
        with self.database.transaction(write=False) as session:
            return session.get_one(Job, job_id).state


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(queue, "send", lambda _task, _job_id: None)
    site = Site(tmp_path)
    yield site
    site.database.close()
    site.app.state.database.close()


@pytest.fixture
def owner(site: Site) -> TestClient:
    return site.client("owner")


@pytest.fixture
def reviewer(site: Site) -> TestClient:
    return site.client("reviewer")


RUNNING = {"state": "running", "claim": "x", "progress_done": 25, "progress_total": 100, "progress_message": "Epoch 2 of 8"}


def test_without_jobs_the_list_says_how_the_first_one_comes_about(owner: TestClient) -> None:
    page = owner.get("/jobs")
    assert page.status_code == 200
    assert "No jobs yet" in page.text


def test_the_list_shows_newest_first_and_escapes_titles(site: Site, owner: TestClient) -> None:
    first, second = site.job(), site.job()
    text = owner.get("/jobs").text
    assert text.index(f"/jobs/{second}") < text.index(f'/jobs/{first}"')
    assert "Train &lt;b&gt;digits" in text
    assert "<b>digits" not in text


def test_the_list_can_be_narrowed_to_a_state(site: Site, owner: TestClient) -> None:
    queued, failed = site.job(), site.job(state="failed", error="It broke.")
    text = owner.get("/jobs?state=failed").text
    assert f'href="/jobs/{failed}"' in text
    assert f'href="/jobs/{queued}"' not in text
    assert "No jobs that are done" in owner.get("/jobs?state=done").text


def test_long_lists_are_read_page_by_page(site: Site, owner: TestClient) -> None:
    ids = [site.job() for _ in range(51)]
    first = owner.get("/jobs").text
    assert f'href="/jobs?after={ids[1]}"' in first
    assert f'href="/jobs/{ids[0]}"' in owner.get(f"/jobs?after={ids[1]}").text


def test_a_jobs_page_shows_its_log_and_what_it_works_for(site: Site, owner: TestClient) -> None:
    text = owner.get(f"/jobs/{site.job()}").text
    assert "Read &lt;img src=x&gt; 10 images" in text
    assert 'href="/runs/7"' in text


def test_an_active_jobs_fragment_asks_for_itself_and_shows_how_far_it_is(site: Site, owner: TestClient) -> None:
    job_id = site.job(**RUNNING, seconds_left=125.0)
    answer = owner.get(f"/jobs/{job_id}/progress", headers=NEWLY_ENDED)
    assert f'hx-get="/jobs/{job_id}/progress"' in answer.text
    assert 'value="25" max="100"' in answer.text
    assert "Epoch 2 of 8" in answer.text
    assert "2 min" in answer.text
    assert "HX-Refresh" not in answer.headers


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_when_the_job_has_ended_the_page_is_loaded_anew_and_asks_no_more(site: Site, owner: TestClient, state: str) -> None:
    job_id = site.job(state=state, error="It broke." if state == "failed" else None, finished_at=now())
    assert owner.get(f"/jobs/{job_id}/progress", headers=NEWLY_ENDED).headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in owner.get(f"/jobs/{job_id}").text


def test_a_failed_job_says_why_and_offers_another_try(site: Site, owner: TestClient) -> None:
    job_id = site.job(state="failed", error="The disk is full.")
    text = owner.get(f"/jobs/{job_id}").text
    assert "The disk is full." in text
    assert f'action="/jobs/{job_id}/retry"' in text


def test_the_buttons_return_to_the_page_they_stood_on(site: Site, owner: TestClient) -> None:
    job_id = site.job(**RUNNING)
    fragment = owner.get(f"/jobs/{job_id}/progress", headers=NEWLY_ENDED).text
    assert 'name="origin" value="/runs/7"' in fragment
    answer = owner.post(f"/jobs/{job_id}/cancel", data={"origin": "/runs/7"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/7")
    assert "Stopping" in owner.get(f"/jobs/{job_id}/progress", headers=NEWLY_ENDED).text


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", ""])
def test_the_buttons_never_lead_to_another_site(site: Site, owner: TestClient, origin: str) -> None:
    job_id = site.job()
    assert owner.post(f"/jobs/{job_id}/cancel", data={"origin": origin}).headers["location"] == f"/jobs/{job_id}"


def test_a_cancelled_job_can_be_tried_again(site: Site, owner: TestClient) -> None:
    job_id = site.job()
    owner.post(f"/jobs/{job_id}/cancel")
    assert site.state(job_id) == "cancelled"
    owner.post(f"/jobs/{job_id}/retry")
    assert site.state(job_id) == "queued"


def test_a_reviewer_sees_jobs_but_neither_stops_nor_repeats_them(site: Site, reviewer: TestClient) -> None:
    job_id = site.job()
    text = reviewer.get(f"/jobs/{job_id}").text
    assert '<form method="post" action="/jobs/' not in text
    assert reviewer.post(f"/jobs/{job_id}/cancel").status_code == 403
    assert reviewer.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 403
    assert reviewer.post(f"/api/v1/jobs/{job_id}/retry").status_code == 403
    assert site.state(job_id) == "queued"


def test_nobody_sees_jobs_without_signing_in(site: Site) -> None:
    job_id = site.job()
    stranger = TestClient(site.app, follow_redirects=False)
    assert stranger.get("/jobs").status_code in (302, 303, 307)
    assert stranger.get(f"/jobs/{job_id}/progress").status_code != 200
    assert stranger.get("/api/v1/jobs").status_code == 401
    assert stranger.get(f"/api/v1/jobs/{job_id}/log").status_code == 401


def test_the_api_lists_jobs_by_cursor(site: Site, owner: TestClient) -> None:
    ids = [site.job() for _ in range(3)]
    first = owner.get("/api/v1/jobs?limit=2").json()
    assert [item["id"] for item in first["items"]] == [ids[2], ids[1]]
    second = owner.get(f"/api/v1/jobs?limit=2&after={first['next']}").json()
    assert ([item["id"] for item in second["items"]], second["next"]) == ([ids[0]], None)


def test_the_api_shows_progress_and_log(site: Site, reviewer: TestClient) -> None:
    job_id = site.job(**RUNNING)
    job = reviewer.get(f"/api/v1/jobs/{job_id}").json()
    assert (job["state"], job["progress_done"], job["progress_total"]) == ("running", 25, 100)
    log = reviewer.get(f"/api/v1/jobs/{job_id}/log").json()
    assert [line["message"] for line in log["items"]] == ["Read <img src=x> 10 images"]


def test_the_api_cancels_and_retries(site: Site, owner: TestClient) -> None:
    job_id = site.job()
    assert owner.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert owner.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 409
    assert owner.post(f"/api/v1/jobs/{job_id}/retry").json()["state"] == "queued"


def test_an_unknown_job_is_a_problem_with_details(owner: TestClient) -> None:
    answer = owner.get("/api/v1/jobs/99")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert owner.get("/jobs/99").status_code == 404


def test_an_unknown_state_is_refused(owner: TestClient) -> None:
    assert owner.get("/api/v1/jobs?state=sleeping").status_code == 422
