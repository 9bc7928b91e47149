"""The rules of jobs, and the sweep, on a real SQLite file."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import select, update
from sqlalchemy.exc import DatabaseError

from backend.core import queue
from backend.core.db import Database
from backend.core.errors import Conflict, NotFound
from backend.core.models import Base, Job, JobLogLine, User, now
from backend.core.settings import Settings
from backend.jobs import service, waiting
from backend.jobs.sweep import Sweep, expire, send_again
from tests.running import wait_until


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'jobs.db'}")
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    messages: list[int] = []
    monkeypatch.setattr(queue, "send", lambda job_id, _lane: messages.append(job_id))
    monkeypatch.setattr(queue, "count_messages", lambda _lanes: len(messages))
    return messages


@pytest.fixture
def owner(database: Database) -> User:
    with database.transaction() as session:
        user = User(name="Olga", role="owner")
        session.add(user)
    return user


def new_job(database: Database, user: User | None = None, **values: object) -> int:
    with database.transaction() as session:
        job_id = service.create(
            session, user, kind="train", title="Train", subject_id=7, data_set_id=None
        ).id
        if values:
            session.execute(update(Job).where(Job.id == job_id).values(**values))
    return job_id


def read(database: Database, job_id: int) -> Job:
    with database.transaction(write=False) as session:
        return session.get_one(Job, job_id)


def test_a_new_job_is_queued_and_its_message_leaves_after_the_commit(
    database: Database, owner: User, sent: list[int]
) -> None:
    with database.transaction() as session:
        job = service.create(
            session,
            owner,
            kind="train",
            title="Train",
            subject_id=7,
            data_set_id=None,
            payload={"a": 1},
        )
        assert sent == []
    assert sent == [job.id]
    assert (job.state, job.subject_id, job.payload, job.created_by) == (
        "queued",
        7,
        {"a": 1},
        owner.id,
    )


def test_a_job_of_a_request_that_failed_sends_nothing(database: Database, sent: list[int]) -> None:
    def fail_after_asking() -> None:
        with database.transaction() as session:
            service.create(
                session, None, kind="train", title="Train", subject_id=7, data_set_id=None
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_asking()
    assert sent == []


def test_a_job_that_is_not_there_is_not_found(database: Database, owner: User) -> None:
    with database.transaction() as session, pytest.raises(NotFound):
        service.get(session, owner, 1)


def test_a_queued_job_is_cancelled_at_once(
    database: Database, owner: User, sent: list[int]
) -> None:
    job_id = new_job(database)
    with database.transaction() as session:
        assert service.cancel(session, owner, job_id).state == "cancelled"
    assert read(database, job_id).finished_at is not None


def test_a_running_job_is_asked_to_stop(database: Database, owner: User, sent: list[int]) -> None:
    job_id = new_job(database, state="running", claim="x", heartbeat_at=now())
    with database.transaction() as session:
        job = service.cancel(session, owner, job_id)
    assert (job.state, job.cancel_requested) == ("running", True)


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_job_that_has_ended_cannot_be_cancelled(
    database: Database, owner: User, sent: list[int], state: str
) -> None:
    job_id = new_job(database, state=state)
    with database.transaction() as session, pytest.raises(Conflict):
        service.cancel(session, owner, job_id)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_retry_queues_the_same_row_with_fresh_attempts(
    database: Database, owner: User, sent: list[int], state: str
) -> None:
    job_id = new_job(
        database,
        state=state,
        attempts=5,
        error="It broke.",
        cancel_requested=True,
        finished_at=now(),
    )
    with database.transaction() as session:
        job = service.retry(session, owner, job_id)
    assert (job.id, job.state, job.attempts, job.error, job.cancel_requested) == (
        job_id,
        "queued",
        0,
        None,
        False,
    )
    assert sent == [job_id, job_id]


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_only_failed_and_cancelled_jobs_can_be_tried_again(
    database: Database, owner: User, sent: list[int], state: str
) -> None:
    job_id = new_job(database, state=state)
    with database.transaction() as session, pytest.raises(Conflict):
        service.retry(session, owner, job_id)


def test_pages_of_jobs_join_without_gap_or_overlap(database: Database, sent: list[int]) -> None:
    ids = [new_job(database) for _ in range(5)]
    seen: list[int] = []
    after: int | None = None
    with database.transaction(write=False) as session:
        while True:
            jobs, after = service.page(session, after=after, limit=2)
            seen += [job.id for job in jobs]
            if after is None:
                break
    assert seen == ids[::-1]


def test_the_log_tail_is_the_end_in_order(database: Database, sent: list[int]) -> None:
    job_id = new_job(database)
    with database.transaction() as session:
        for number in range(5):
            session.add(JobLogLine(job_id=job_id, message=str(number)))
            session.flush()
        job = session.get_one(Job, job_id)
        assert [line.message for line in service.log_tail(session, job, 2)] == ["3", "4"]
        lines, following = service.log_page(session, job, limit=3)
        assert [line.message for line in lines] == ["0", "1", "2"]
        lines, following = service.log_page(session, job, after=following or 0, limit=3)
        assert ([line.message for line in lines], following) == (["3", "4"], None)


# ── the sweep ─────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_the_broker_lost_is_sent_again(database: Database, sent: list[int]) -> None:
    job_id = new_job(database)
    sent.clear()  # the broker was killed and came back empty
    assert send_again(database) == 1
    assert sent == [job_id]


@pytest.mark.slow
def test_a_long_job_that_blocks_the_queue_does_not_flood_the_broker(
    database: Database, sent: list[int]
) -> None:
    new_job(database, state="running", claim="x", heartbeat_at=now())
    for _ in range(3):
        new_job(database)
    sent.clear()
    for _ in range(100):
        send_again(database)
    assert len(sent) == 3


def test_one_lost_message_among_others_is_sent_again_and_messages_stay_bounded(
    database: Database, sent: list[int]
) -> None:
    ids = [new_job(database) for _ in range(3)]
    sent.remove(ids[1])
    for _ in range(100):
        send_again(database)
    assert set(sent) == set(ids)
    assert len(sent) <= 2 * len(ids)


def test_ended_and_running_jobs_are_not_sent_again(database: Database, sent: list[int]) -> None:
    for state in ("running", "done", "failed", "cancelled"):
        new_job(database, state=state)
    sent.clear()
    assert send_again(database) == 0


def test_a_job_whose_worker_fell_silent_is_queued_again(
    database: Database, sent: list[int]
) -> None:
    job_id = new_job(
        database, state="running", claim="x", attempts=1, heartbeat_at=now() - timedelta(seconds=21)
    )
    assert expire(database, 20) == [job_id]
    job = read(database, job_id)
    assert (job.state, job.claim, job.attempts, sent) == ("queued", None, 1, [job_id, job_id])
    with database.transaction(write=False) as session:
        assert "queued again" in session.scalars(select(JobLogLine.message)).one()


def test_a_job_whose_worker_still_beats_is_left_alone(database: Database, sent: list[int]) -> None:
    new_job(database, state="running", claim="x", heartbeat_at=now() - timedelta(seconds=19))
    assert expire(database, 20) == []


def test_a_silent_job_that_should_stop_is_cancelled(database: Database, sent: list[int]) -> None:
    long_ago = now() - timedelta(hours=1)
    job_id = new_job(
        database, state="running", claim="x", cancel_requested=True, heartbeat_at=long_ago
    )
    sent.clear()
    expire(database, 20)
    assert (read(database, job_id).state, sent) == ("cancelled", [])


def until(happened: threading.Event) -> None:
    assert happened.wait(5)


def test_the_sweep_outlives_an_outage_of_the_broker(
    database: Database,
    sent: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job_id = new_job(database)
    sent.clear()
    outages: list[int] = []
    arrived = threading.Event()

    def waiting(_lanes: object) -> int:
        if len(outages) < 3:
            outages.append(1)
            raise OperationalError("the broker is away")
        return 0

    def send(job_id: int, _lane: object) -> None:
        sent.append(job_id)
        arrived.set()

    monkeypatch.setattr(queue, "count_messages", waiting)
    monkeypatch.setattr(queue, "send", send)
    sweep = Sweep(database, Settings(sweep_seconds=0.01))
    with caplog.at_level(logging.WARNING):
        sweep.start()
        until(arrived)
        sweep.stop()
    assert job_id in sent
    assert caplog.text.count("will try again") == 1


def test_the_sweep_outlives_an_outage_of_the_database(tmp_path: Path, sent: list[int]) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")  # no tables yet: every query fails
    sweep = Sweep(database, Settings(sweep_seconds=0.01))
    sweep.start()
    time.sleep(0.1)
    Base.metadata.create_all(database.engine)
    with database.transaction() as session:
        session.add(Job(kind="train", title="Train", subject_id=1))
    deadline = time.monotonic() + 5
    while not sent and time.monotonic() < deadline:
        time.sleep(0.01)
    sweep.stop()
    database.close()
    assert 1 in sent


def lose_a_job(database: Database) -> int:
    """Make a job whose worker has not beaten for hours."""
    long_ago = now() - timedelta(hours=8)
    return new_job(database, state="running", claim="x", heartbeat_at=long_ago)


def sweep_until_found(sweep: Sweep, database: Database, job_id: int) -> None:
    """Do rounds until a lost job is queued again, so that the sweep's patience is over."""

    def found() -> bool:
        sweep._round()
        return read(database, job_id).state == "queued"

    wait_until(found, 5, "the sweep to find a lost job")


def test_after_the_machine_slept_workers_get_a_round_to_beat_again(
    database: Database, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(database, Settings(sweep_seconds=5, heartbeat_timeout_seconds=0.2))
    sweep_until_found(sweep, database, lose_a_job(database))
    job_id = lose_a_job(database)
    monkeypatch.setattr(sweep, "_last", time.time() - 8 * 3600)
    sweep._round()
    assert read(database, job_id).state == "running"
    sweep_until_found(sweep, database, job_id)


def test_after_an_outage_of_the_database_workers_get_the_time_to_beat_again(
    database: Database, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(database, Settings(heartbeat_timeout_seconds=0.2))
    sweep_until_found(sweep, database, lose_a_job(database))
    job_id = lose_a_job(database)
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", _away)
        sweep._round()
    sweep._round()
    assert read(database, job_id).state == "running"
    sweep_until_found(sweep, database, job_id)


def _away(**_: object) -> None:
    raise DatabaseError("SELECT", {}, Exception("the connection is refused"))


def test_chores_are_done_at_the_start_and_then_seldom(database: Database, sent: list[int]) -> None:
    done: list[int] = []
    sweep = Sweep(database, Settings(), chores=[lambda: done.append(1)])
    for _ in range(3):
        sweep._round()
    assert done == [1]


# ── what is ahead ─────────────────────────────────────────────────────────────────────────────────


def ahead(database: Database, job_id: int) -> str:
    with database.transaction(write=False) as session:
        return waiting.describe(session.get_one(Job, job_id))


def test_a_job_with_nothing_ahead_waits_for_a_free_worker(
    database: Database, sent: list[int]
) -> None:
    job_id = new_job(database)
    new_job(database)  # behind it
    new_job(database, state="done")
    assert ahead(database, job_id) == waiting.NOTHING


def test_a_waiting_job_says_what_is_ahead_and_for_how_long(
    database: Database, sent: list[int]
) -> None:
    new_job(database, state="running", title="Train on clothing", seconds_left=725.0)
    job_id = new_job(database)
    assert ahead(database, job_id) == "Waiting behind: Train on clothing, about 12 min left."
    new_job(database, lane="quick")
    last = new_job(database)
    assert ahead(database, last) == (
        "Waiting behind: Train on clothing, about 12 min left, and 2 jobs more."
    )


def test_of_several_running_jobs_the_first_to_end_is_named(
    database: Database, sent: list[int]
) -> None:
    new_job(database, state="running", title="Unknown")
    new_job(database, state="running", title="Long", seconds_left=900.0)
    new_job(database, state="running", title="Short", seconds_left=30.0)
    assert ahead(database, new_job(database)) == "Waiting behind: Short, about 30 s left."


def test_a_quick_job_waits_behind_quick_ones_only_unless_it_waits_for_long(
    database: Database, sent: list[int]
) -> None:
    new_job(database, state="running", title="Train on clothing", seconds_left=725.0)
    job_id = new_job(database, lane="quick")
    assert ahead(database, job_id) == waiting.NOTHING
    with database.transaction() as session:
        session.get_one(Job, job_id).created_at = now() - timedelta(minutes=1)
    assert ahead(database, job_id) == "Waiting behind: Train on clothing, about 12 min left."
    new_job(database, state="running", lane="quick", title="Why")
    assert ahead(database, job_id) == "Waiting behind: Why."
