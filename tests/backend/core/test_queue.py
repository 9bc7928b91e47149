"""Messages on a real broker: sent only after the commit; an absent broker is no error."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from backend.accounts import service as accounts
from backend.core import job_lifecycle, queue
from backend.core.db import Database, after_commit
from backend.core.models import Base, Job, User
from backend.core.settings import Settings
from backend.jobs import sweep
from backend.main import create_app
from tests import servers
from tests.factories import a_job, a_user

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def broker_url() -> Iterator[str]:
    with servers.redis() as url:
        yield url


@pytest.fixture
def broker(broker_url: str) -> Iterator[Redis]:
    """An empty broker, used by our processes."""
    queue.configure(broker_url)
    with Redis.from_url(broker_url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'winnow.db'}")
    Base.metadata.create_all(made.engine)
    yield made
    made.close()


def messages(broker: Redis) -> list[tuple[str, int]]:
    """(task, job id) of each message that waits, the oldest first."""
    found = []
    for name in queue.QUEUES.values():
        # The client's types allow for its asynchronous twin.
        for raw in reversed(broker.lrange(name, 0, -1)):  # type: ignore[misc, arg-type]
            message = json.loads(raw)
            assert message["content-type"] == "application/json"
            arguments, _, _ = json.loads(b64decode(message["body"]))
            found.append((message["headers"]["task"], arguments[0]))
    return found


def test_a_message_leaves_after_the_commit_and_carries_only_the_jobs_number(
    broker: Redis, database: Database
) -> None:
    with database.transaction() as session:
        job = a_job(session, kind="score", payload={"secret": "not for the broker"})
        queue.enqueue(session, job.id)
        session.flush()
        assert messages(broker) == []
    assert messages(broker) == [(queue.PERFORM, job.id)]
    assert b"secret" not in broker.lrange(queue.QUEUE, 0, -1)[0]  # type: ignore[index] # as above


def test_when_the_message_arrives_the_row_is_there_for_everybody(
    broker: Redis, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []

    def look(job_id: int, _lane: str) -> None:
        with database.transaction(write=False) as session:
            seen.append(session.scalar(select(Job.id).where(Job.id == job_id)))

    monkeypatch.setattr(queue, "send", look)
    with database.transaction() as session:
        job = a_job(session)
        queue.enqueue(session, job.id)
    assert seen == [job.id]


def test_a_transaction_that_is_rolled_back_sends_nothing(broker: Redis, database: Database) -> None:
    def fails() -> None:
        with database.transaction() as session:
            queue.enqueue(session, a_job(session).id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert messages(broker) == []


def test_a_savepoint_sends_nothing_by_itself(broker: Redis, database: Database) -> None:
    with database.transaction() as session:
        with session.begin_nested():
            queue.enqueue(session, a_job(session).id)
        assert messages(broker) == []
    assert len(messages(broker)) == 1


def test_a_commit_that_fails_sends_nothing(broker: Redis, database: Database) -> None:
    def fails() -> None:
        with database.transaction() as session:
            session.execute(text("PRAGMA defer_foreign_keys = ON"))  # checked by the commit itself
            queue.enqueue(session, a_job(session, data_set_id=4711).id)

    with pytest.raises(IntegrityError):
        fails()
    assert messages(broker) == []
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_several_messages_leave_in_order_and_once(broker: Redis, database: Database) -> None:
    with database.transaction() as session:
        ids = [a_job(session).id for _ in range(3)]
        for job_id in ids:
            queue.enqueue(session, job_id)
    assert messages(broker) == [(queue.PERFORM, job_id) for job_id in ids]
    assert queue.count_messages() == 3


def test_quick_jobs_have_a_queue_of_their_own(broker: Redis, database: Database) -> None:
    with database.transaction() as session:
        training = job_lifecycle.add_job(session, Job(kind="train", title="Train", subject_id=1))
        why = job_lifecycle.add_job(session, Job(kind="explain", title="Why", subject_id=1))
    assert messages(broker) == [(queue.PERFORM, why.id), (queue.PERFORM, training.id)]
    assert (queue.count_messages(["quick"]), queue.count_messages(["long"])) == (1, 1)


def test_a_lost_message_of_one_lane_is_sent_again_whatever_waits_in_the_other(
    broker: Redis, database: Database
) -> None:
    with database.transaction() as session:
        for _ in range(3):
            job_lifecycle.add_job(session, Job(kind="train", title="Train", subject_id=1))
        why = job_lifecycle.add_job(session, Job(kind="explain", title="Why", subject_id=1))
    broker.delete(queue.QUEUES["quick"])
    assert sweep.send_again(database) == 1
    assert messages(broker)[0] == (queue.PERFORM, why.id)


def test_a_broker_that_is_away_is_no_error_and_keeps_nobody_waiting(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    # The command line, which other tests run in this process, silences this logger.
    caplog.set_level("WARNING", queue.__name__)
    queue.configure(NOBODY)
    began = time.monotonic()
    with database.transaction() as session:
        job = a_job(session)
        queue.enqueue(session, job.id)
    assert time.monotonic() - began < 5
    assert f"The broker is away; job {job.id} stays queued and is sent again later" in caplog.text
    with database.transaction(write=False) as session:
        assert session.get_one(Job, job.id).state == "queued"


def test_what_could_not_be_sent_the_sweep_sends_once_the_broker_is_back(
    broker_url: str, broker: Redis, database: Database
) -> None:
    queue.configure(NOBODY)
    with database.transaction() as session:
        ids = [a_job(session).id for _ in range(2)]
        a_job(session, state="done")
        for job_id in ids:
            queue.enqueue(session, job_id)
    queue.configure(broker_url)
    assert messages(broker) == []
    assert sweep.send_again(database) == 2
    assert messages(broker) == [(queue.PERFORM, job_id) for job_id in ids]
    assert sweep.send_again(database) == 0


def test_a_broker_that_lost_everything_is_filled_again(broker: Redis, database: Database) -> None:
    with database.transaction() as session:
        queue.enqueue(session, a_job(session).id)
    broker.flushall()
    assert sweep.send_again(database) == 1
    assert len(messages(broker)) == 1


# ── what else waits for the commit ────────────────────────────────────────────────────────────────


def test_what_is_to_be_done_after_the_commit_is_done_then_and_in_order(database: Database) -> None:
    done: list[str] = []
    with database.transaction() as session:
        after_commit(session, lambda: done.append("first"))
        after_commit(session, lambda: done.append("second"))
        assert done == []
    assert done == ["first", "second"]


def test_after_a_rollback_it_is_not_done(database: Database) -> None:
    done: list[str] = []

    def fails() -> None:
        with database.transaction() as session:
            after_commit(session, lambda: done.append("never"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert done == []


# ── transactions ──────────────────────────────────────────────────────────────────────────────────


def test_two_writers_wait_for_each_other_in_place_of_failing(database: Database) -> None:
    def add(name: str) -> None:
        for number in range(20):
            with database.transaction() as session:
                session.scalar(select(func.count()).select_from(User))
                a_user(session, f"{name} {number}")

    threads = [Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(User)) == 80


def test_a_reader_neither_waits_for_a_writer_nor_sees_what_is_not_committed(
    database: Database,
) -> None:
    with database.transaction() as writing:
        a_user(writing, "olga")
        with database.transaction(write=False) as reading:
            assert reading.scalar(select(func.count()).select_from(User)) == 0


def test_a_key_to_nothing_is_refused_on_sqlite_too(database: Database) -> None:
    with (
        pytest.raises(IntegrityError, match="FOREIGN KEY constraint failed"),
        database.transaction() as session,
    ):
        a_job(session, data_set_id=4711)


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def web(tmp_path: Path, broker_url: str, broker: Redis) -> Iterator[TestClient]:
    """The whole application with a program's token, on the real broker."""
    app: FastAPI = create_app(Settings(home=tmp_path / "home", broker_url=broker_url))
    Base.metadata.create_all(app.state.database.engine)
    with app.state.database.transaction() as session:
        token = accounts.create_token(session, a_user(session, "olga"), "tests")
    yield TestClient(
        app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}"}
    )
    app.state.database.close()


def test_a_request_sends_its_message_before_it_answers(web: TestClient, broker: Redis) -> None:
    made = web.post("/api/v1/data-sets", json={"source": {"kind": "sample"}}).json()
    assert messages(broker) == [(queue.PERFORM, made["job"]["id"])]


def test_a_request_that_is_refused_sends_nothing(web: TestClient, broker: Redis) -> None:
    assert (
        web.post(
            "/api/v1/data-sets", json={"source": {"kind": "folder", "path": "/etc"}}
        ).status_code
        == 403
    )
    assert messages(broker) == []


def test_a_request_is_served_while_the_broker_is_away_and_the_job_is_sent_at_the_next_sweep(
    web: TestClient, broker: Redis, broker_url: str
) -> None:
    queue.configure(NOBODY)
    answer = web.post("/api/v1/data-sets", json={"source": {"kind": "sample"}})
    assert (answer.status_code, answer.json()["job"]["state"]) == (202, "queued")
    queue.configure(broker_url)
    sweep.sweep(web.app.state.database, 20.0)  # type: ignore[attr-defined] # any ASGI app
    assert messages(broker) == [(queue.PERFORM, answer.json()["job"]["id"])]
