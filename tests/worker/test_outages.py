"""A worker waits for an absent database, and neither its job nor its attempt is lost."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from backend.core.db import Database
from tests.worker.test_jobs import Bench, bench, finish, results
from worker import jobs
from worker.jobs import JobContext
from worker.outages import DatabaseAway, PatientDatabase, is_outage

__all__ = ["bench"]


class Flaky(Database):
    """A database that is away, or whose connection breaks at the commit."""

    away = False
    breaks_at_commit: str | None = None  # "before" or "after" it takes effect

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Session]:
        if self.away:
            raise gone(invalidated=False)
        breaks, self.breaks_at_commit = (self.breaks_at_commit, None) if write else (None, None)
        with super().transaction(write=write) as session:
            yield session
            if breaks == "before":
                raise gone()
        if breaks == "after":
            raise gone()


def gone(*, invalidated: bool = True) -> OperationalError:
    return OperationalError(
        "UPDATE", {}, Exception("server closed the connection"), connection_invalidated=invalidated
    )


@pytest.fixture
def flaky(bench: Bench) -> Flaky:
    bench.database.close()
    made = Flaky(bench.settings.database)
    bench.database = made
    return made


def come_back_later(flaky: Flaky, seconds: float = 0.5) -> None:
    flaky.away = True
    threading.Timer(seconds, lambda: setattr(flaky, "away", False)).start()


def test_a_transaction_waits_for_the_database_and_says_so_once(
    flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    patient = PatientDatabase(flaky, threading.Event())
    come_back_later(flaky)
    with caplog.at_level(logging.WARNING), patient.transaction() as session:
        session.execute(text("SELECT 1"))
    assert caplog.text.count("The database is away") == 1
    assert caplog.text.count("The database is back") == 1
    assert "Traceback" not in caplog.text


def test_waiting_ends_with_the_process_and_with_its_patience(flaky: Flaky) -> None:
    flaky.away = True
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    for patient in (
        PatientDatabase(flaky, stopping),
        PatientDatabase(flaky, threading.Event(), 0.3),
    ):
        began = time.monotonic()
        with pytest.raises(DatabaseAway):
            patient.write(lambda session: session.execute(text("SELECT 1")))
        assert time.monotonic() - began < 2
    flaky.away = False


def test_an_error_that_is_no_outage_is_raised_at_once(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(OperationalError, match="no such table"):
        PatientDatabase(database, threading.Event()).write(
            lambda session: session.execute(text("SELECT * FROM absent"))
        )
    database.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (gone(), True),
        (gone(invalidated=False), True),
        (OperationalError("INSERT", {}, Exception("No space left on device")), False),
        (ValueError("no database"), False),
    ],
)
def test_an_outage_is_told_from_a_full_disk(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


def test_a_job_that_logs_while_the_database_is_away_goes_on(bench: Bench, flaky: Flaky) -> None:
    def log(context: JobContext) -> None:
        come_back_later(flaky)
        context.log("It is back.")
        context.note_safe_point()
        finish(context)

    job = bench.perform(log)
    assert (job.state, job.attempts, results(bench)) == ("done", 1, 1)
    assert "It is back." in bench.log()


def test_a_job_that_reports_while_the_database_is_away_goes_on(bench: Bench, flaky: Flaky) -> None:
    def report(context: JobContext) -> None:
        come_back_later(flaky)
        context.progress(1, 2)
        finish(context)

    assert (bench.perform(report).state, results(bench)) == ("done", 1)


@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_commit_that_breaks_off_is_neither_lost_nor_doubled(
    bench: Bench, flaky: Flaky, breaks: str
) -> None:
    def work(context: JobContext) -> None:
        flaky.breaks_at_commit = breaks
        finish(context)

    job = bench.perform(work)
    if breaks == "before":  # given back, and done by the next attempt
        assert (job.state, job.attempts, results(bench)) == ("queued", 0, 0)
        assert "continues from its last safe point" in bench.log()[-1]
        job = bench.perform(finish)
    assert (job.state, job.attempts, results(bench)) == ("done", 1, 1)
    assert bench.log().count("Done.") == 1


@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_claim_whose_commit_breaks_off_uses_up_one_attempt(
    bench: Bench, flaky: Flaky, breaks: str
) -> None:
    flaky.breaks_at_commit = breaks
    assert bench.perform(finish).attempts == 1
    assert results(bench) == 1


def test_a_job_that_cannot_be_given_back_is_given_back_later_without_an_attempt(
    bench: Bench, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LAST_SECONDS", 0.2)

    def be_stopped_in_an_outage(context: JobContext) -> None:
        flaky.away = True
        jobs.stopping.set()
        context.progress(1, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "job", lambda: None)
        bench.perform(be_stopped_in_an_outage)
    flaky.away = False
    jobs.stopping.clear()
    assert (bench.job().state, bench.job().attempts) == ("running", 1)
    jobs.give_back_noted(bench.database, bench.storage)
    assert (bench.job().state, bench.job().attempts) == ("queued", 0)
    jobs.give_back_noted(bench.database, bench.storage)  # once
    assert (bench.perform(finish).state, bench.job().attempts) == ("done", 1)


def test_a_job_that_the_sweep_took_first_gets_its_attempt_back_too(bench: Bench) -> None:
    claimed = jobs.claim(bench.job_id, bench.database, 3)
    assert claimed is not None
    assert claimed.claim is not None
    bench.storage.note_given_back(bench.job_id, claimed.claim)
    bench.change(state="queued", claim=None)
    jobs.give_back_noted(bench.database, bench.storage)
    assert (bench.job().attempts, bench.job().attempts_without_progress) == (0, 0)
