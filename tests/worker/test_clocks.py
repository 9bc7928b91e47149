"""Workers and web whose clocks differ agree on who is alive: the database's clock decides."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import select

from backend.core import queue
from backend.core.clock import DatabaseTime
from backend.core.db import Database
from backend.core.models import Base, Job, base
from backend.jobs.sweep import expire
from tests import servers
from worker import jobs

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with servers.postgres() as url:
        made = Database(url)
        Base.metadata.create_all(made.engine)
        yield made
        made.close()


@pytest.fixture
def job_id(database: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(queue, "send", lambda *_: None)
    with database.transaction() as session:
        job = Job(kind="train", title="Train", subject_id=1)
        session.add(job)
    return job.id


def set_clock(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set this process's clock wrong by so many seconds."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=seconds)

    patch.setattr(base, "datetime", Shifted)


@pytest.mark.postgres
@pytest.mark.parametrize("seconds", [-30, 30])
def test_a_worker_whose_clock_is_wrong_keeps_its_job_while_it_beats(
    database: Database, job_id: int, seconds: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, seconds)
        claimed = jobs.claim(job_id, database, 5)
    assert claimed is not None
    assert expire(database, TIMEOUT) == []
    with database.transaction(write=False) as session:
        beat = session.get_one(Job, job_id).heartbeat_at
    assert beat is not None
    assert abs(beat - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.postgres
@pytest.mark.parametrize("seconds", [-30, 30])
def test_a_web_whose_clock_is_wrong_finds_a_dead_worker_in_time(
    database: Database, job_id: int, seconds: float
) -> None:
    assert jobs.claim(job_id, database, 5) is not None
    with database.transaction() as session:
        session.get_one(Job, job_id).heartbeat_at = datetime.now(UTC) - timedelta(seconds=15)
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, seconds)
        assert expire(database, TIMEOUT) == []
        assert expire(database, 10.0) == [job_id]


def test_sqlites_times_compare_with_those_that_are_stored(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'winnow.db'}")
    Base.metadata.create_all(database.engine)
    with database.transaction() as session:
        session.add(Job(kind="train", title="Train", subject_id=1, heartbeat_at=DatabaseTime()))
        session.flush()
        beat = session.scalars(select(Job.heartbeat_at)).one()
        assert beat is not None
        assert abs(beat - datetime.now(UTC)) < timedelta(seconds=5)
        ago = session.scalar(select(DatabaseTime(3600)))
        assert ago is not None
        assert timedelta(minutes=59) < datetime.now(UTC) - ago < timedelta(minutes=61)
    database.close()
