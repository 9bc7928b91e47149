"""A job kind is a line in the registry, a pipeline function, and the code that queues it."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.job_kinds import KINDS, JobKind, Subject
from backend.core.models import JobLogLine
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.jobs import service
from worker.jobs import JobContext, perform

ROOT = Path(__file__).parents[3]


def polish(context: JobContext) -> None:
    """The pipeline function of the new kind."""
    with context.finish() as session:
        session.add(JobLogLine(job_id=context.job_id, message="Polished."))


@pytest.fixture
def polishing(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = JobKind(Subject.RUN, f"{__name__}:polish", resumes=True)
    monkeypatch.setitem(KINDS, "polish", kind)


def queue_polishing(database: Database) -> int:
    with database.transaction() as session:
        return service.create(
            session, None, kind="polish", title="Polish", subject_id=7, data_set_id=None
        ).id


def test_a_new_kind_is_queued_performed_and_shown_by_its_line_in_the_registry(
    polishing: None, client: TestClient, database: Database, storage: Storage, settings: Settings
) -> None:
    job_id = queue_polishing(database)
    perform(job_id, database, storage, settings)
    page = client.get(f"/jobs/{job_id}").text
    assert "Polished." in page
    assert re.search(r'href="/runs/7">\s*Go to the training', page)
    answer = client.get(f"/api/v1/jobs/{job_id}").json()
    assert (answer["kind"], answer["state"]) == ("polish", "done")


def test_a_kind_that_resumes_says_so_when_it_is_cancelled(
    polishing: None, client: TestClient, database: Database
) -> None:
    job_id = queue_polishing(database)
    client.post(f"/jobs/{job_id}/cancel")
    assert "What it had done is kept" in client.get(f"/jobs/{job_id}").text


def test_an_unknown_kind_is_never_queued(database: Database) -> None:
    with pytest.raises(KeyError, match="polish"):
        queue_polishing(database)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_named_by_its_registry_and_by_what_queues_it_only(kind: str) -> None:
    named = re.compile(rf'(?:kind\s*[=!]=?|_queue\(\s*session,)\s*"{kind}"')
    files = [
        path.relative_to(ROOT).as_posix()
        for part in ("backend", "worker", "frontend")
        for path in (ROOT / part).rglob("*")
        if path.suffix in (".py", ".html", ".js") and named.search(path.read_text())
    ]
    # Both the first run and its repetitions queue trainings, both web and worker queue the others.
    assert 1 <= len(files) <= 2, files
