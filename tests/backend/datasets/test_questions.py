"""Questions of imports, over the API and on pages: shown, answered once, stopped, deleted."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import DataSet, Job, JobLogLine, Refusal
from backend.core.storage import Storage
from backend.datasets import service
from tests.factories import a_job
from tests.world import SCRIPT, a_question

API = "/api/v1/data-sets"


@pytest.fixture
def upload(storage: Storage) -> Path:
    path = storage.new_upload(".zip")
    path.write_bytes(b"PK")
    return path


@pytest.fixture
def asking(database: Database, upload: Path) -> DataSet:
    with database.transaction() as session:
        data_set = DataSet(
            name="Either",
            state="asking",
            source={"kind": "zip", "path": str(upload), "upload": True},
            report={"question": a_question()},
            refused_count=1,
        )
        session.add(data_set)
        session.flush()
        session.add(Refusal(data_set_id=data_set.id, path="a.jpg", reason="It is empty."))
        a_job(
            session,
            kind="import",
            subject_id=data_set.id,
            data_set_id=data_set.id,
            state="asking",
            attempts=2,
        )
        return data_set


def job_of(database: Database, data_set: DataSet) -> Job:
    with database.transaction(write=False) as session:
        job = service.import_job(session, data_set)
    assert job is not None
    return job


def test_the_question_comes_with_the_data_set(api_client: TestClient, asking: DataSet) -> None:
    found = api_client.get(f"{API}/{asking.id}").json()
    assert (found["state"], found["job"]["state"]) == ("asking", "asking")
    assert found["report"]["question"] == a_question()
    assert api_client.get(f"{API}/{asking.id}/refusals.csv").text.splitlines() == [
        "path,reason",
        "a.jpg,It is empty.",
    ]


def test_an_answer_queues_the_import_again_and_may_be_repeated(
    api_client: TestClient, database: Database, asking: DataSet, upload: Path
) -> None:
    for _ in range(2):
        answer = api_client.post(f"{API}/{asking.id}/answer", json={"answer": "splits"})
        assert (answer.status_code, answer.json()["state"]) == (202, "importing")
        assert answer.json()["job"]["state"] == "queued"
    job = job_of(database, asking)
    assert (job.state, job.attempts) == ("queued", 0)
    with database.transaction(write=False) as session:
        data_set = session.get_one(DataSet, asking.id)
        assert data_set.source == {**asking.source, "layout": "splits"}
        assert data_set.report == {}
        lines = session.query(JobLogLine).filter(JobLogLine.job_id == job.id).all()
        assert [line.message for line in lines] == ["olga answered: They are splits."]
    other = api_client.post(f"{API}/{asking.id}/answer", json={"answer": "classes"})
    assert other.status_code == 409
    assert upload.exists()


@pytest.mark.parametrize(("answer", "status"), [("perhaps", 422), ("", 422), (SCRIPT, 422)])
def test_an_answer_that_is_no_choice_is_refused(
    api_client: TestClient, database: Database, asking: DataSet, answer: str, status: int
) -> None:
    refused = api_client.post(f"{API}/{asking.id}/answer", json={"answer": answer})
    assert refused.status_code == status
    assert job_of(database, asking).state == "asking"


def test_only_an_owner_answers(
    reviewer_client: TestClient, database: Database, asking: DataSet
) -> None:
    page = reviewer_client.get(f"/datasets/{asking.id}").text
    assert "The import asks" in page
    assert f"/datasets/{asking.id}/answer" not in page
    refused = reviewer_client.post(f"/datasets/{asking.id}/answer", data={"answer": "splits"})
    assert refused.status_code == 403
    assert job_of(database, asking).state == "asking"


def test_the_page_shows_the_question_with_a_button_for_each_answer(
    client: TestClient, database: Database, asking: DataSet
) -> None:
    text = client.get(f"/datasets/{asking.id}").text
    assert SCRIPT not in text
    assert "exam → <b>test</b>" in text
    assert "and 2 more" in text
    assert "1 problem" in text
    assert "It is empty." in text
    assert 'value="splits"' in text
    assert "Train a model" not in text
    assert "The import asks a question." in client.get("/datasets").text
    job = job_of(database, asking)
    assert "See the question" in client.get(f"/jobs/{job.id}").text
    sent = client.post(
        f"/datasets/{asking.id}/answer", data={"answer": "classes"}, follow_redirects=False
    )
    assert (sent.status_code, sent.headers["location"]) == (303, f"/datasets/{asking.id}")
    assert 'hx-trigger="every 1s"' in client.get(f"/datasets/{asking.id}").text


def test_training_waits_for_the_answer(api_client: TestClient, asking: DataSet) -> None:
    refused = api_client.post(f"{API}/{asking.id}/runs", json={})
    assert refused.status_code == 409
    assert "waits for an answer" in refused.json()["detail"]


def test_an_import_that_asks_can_be_stopped_and_started_again(
    api_client: TestClient, database: Database, asking: DataSet
) -> None:
    job = job_of(database, asking)
    assert api_client.post(f"/api/v1/jobs/{job.id}/cancel").json()["state"] == "cancelled"
    refused = api_client.post(f"{API}/{asking.id}/answer", json={"answer": "splits"})
    assert refused.status_code == 409
    assert api_client.post(f"/api/v1/jobs/{job.id}/retry").json()["state"] == "queued"


def test_a_data_set_that_asks_is_deleted_with_its_upload(
    api_client: TestClient, database: Database, asking: DataSet, upload: Path, storage: Storage
) -> None:
    with database.transaction() as session:
        service.forget_uploads(session, storage)
    assert upload.exists()
    assert api_client.delete(f"{API}/{asking.id}").status_code == 204
    assert not upload.exists()


def test_answers_in_advance_are_kept_with_the_source(
    api_client: TestClient, client: TestClient, database: Database
) -> None:
    options = {"layout": "subfolders", "small_classes": "leave-out"}
    api_client.post(f"{API}/upload", files={"file": ("a.zip", b"PK")}, data=options)
    api_client.post(API, json={"source": {"kind": "sample"}, **options})
    with database.transaction(write=False) as session:
        for data_set in session.query(DataSet).all():
            assert options.items() <= data_set.source.items()
    wrong = api_client.post(API, json={"source": {"kind": "sample"}, "layout": "guess"})
    assert wrong.status_code == 422


def test_a_failed_import_shows_its_problems(client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        data_set = DataSet(name="Bad", state="failed", source={}, refused_count=1)
        session.add(data_set)
        session.flush()
        session.add(Refusal(data_set_id=data_set.id, path="a.jpg", reason="It is empty."))
        a_job(
            session,
            kind="import",
            subject_id=data_set.id,
            data_set_id=data_set.id,
            state="failed",
            error="There is no usable image.",
        )
    text = client.get(f"/datasets/{data_set.id}").text
    assert "It is empty." in text
    assert f"/datasets/{data_set.id}/refusals.csv" in text
