"""Claiming, working, finishing and failing, on a real SQLite file."""

import errno
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sqlalchemy import create_engine, select, update
from sqlalchemy.exc import OperationalError

from backend.core import queue
from backend.core.db import Database
from backend.core.job_kinds import KINDS
from backend.core.models import Base, Job, JobLogLine, User, now
from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import claims, heartbeat, jobs
from worker.engine.errors import Diverged
from worker.jobs import JobContext, perform
from worker.progress import Bar

Work = Callable[[JobContext], None]


def do(context: JobContext) -> None:
    """The pipeline function of these tests: whatever the test put into `work`."""
    work(context)


def work(context: JobContext) -> None:
    raise AssertionError("the test says what to do")


class Bench:
    """A database with a queued job, and a worker to perform it."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(home=home, heartbeat_seconds=0.05, max_attempts=3)
        self.storage = Storage(self.settings.files)
        self.database = Database(self.settings.database)
        self.monkeypatch = monkeypatch
        self.sent: list[int] = []
        Base.metadata.create_all(self.database.engine)
        kind = replace(KINDS["import"], pipeline=f"{__name__}:do")
        monkeypatch.setitem(KINDS, "import", kind)
        monkeypatch.setattr(queue, "send", lambda job_id, _lane: self.sent.append(job_id))
        with self.database.transaction() as session:
            job = Job(kind="import", title="Import", subject_id=1)
            session.add(job)
        self.job_id = job.id

    def perform(self, doing: Work) -> Job:
        self.monkeypatch.setattr(sys.modules[__name__], "work", doing)
        perform(self.job_id, self.database, self.storage, self.settings)
        return self.job()

    def job(self) -> Job:
        with self.database.transaction(write=False) as session:
            return session.get_one(Job, self.job_id)

    def log(self) -> list[str]:
        with self.database.transaction(write=False) as session:
            return list(session.scalars(select(JobLogLine.message).order_by(JobLogLine.id)))

    def change(self, **values: object) -> None:
        with self.database.transaction() as session:
            session.execute(update(Job).values(**values))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.0)
    bench = Bench(tmp_path, monkeypatch)
    yield bench
    jobs.stopping.clear()
    bench.database.close()


def finish(context: JobContext) -> None:
    with context.finish() as session:
        session.add(User(name=f"result of {context.job_id}", role="owner"))


def results(bench: Bench) -> int:
    with bench.database.transaction(write=False) as session:
        return len(session.scalars(select(User)).all())


def test_a_performed_job_is_done_and_its_results_are_there(bench: Bench) -> None:
    job = bench.perform(finish)
    assert (job.state, job.attempts, job.claim, job.error) == ("done", 1, None, None)
    assert job.finished_at is not None
    assert results(bench) == 1
    assert bench.log() == ["Started.", "Done."]


def test_a_second_delivery_does_nothing(bench: Bench) -> None:
    bench.perform(finish)
    job = bench.perform(finish)
    assert (job.state, job.attempts, results(bench)) == ("done", 1, 1)


def test_a_delivery_while_the_job_runs_does_nothing(bench: Bench) -> None:
    def deliver_again(context: JobContext) -> None:
        perform(context.job_id, context.database, context.storage, context.settings)
        finish(context)

    job = bench.perform(deliver_again)
    assert (job.state, job.attempts, results(bench)) == ("done", 1, 1)


def test_a_delivery_of_an_unknown_job_does_nothing(bench: Bench) -> None:
    perform(bench.job_id + 1, bench.database, bench.storage, bench.settings)
    assert bench.job().state == "queued"


def test_progress_is_readable_while_the_job_runs(bench: Bench) -> None:
    seen: list[tuple[int, int, str]] = []

    def report(context: JobContext) -> None:
        context.progress(3, 10, "3 of 10 images")
        job = bench.job()
        seen.append((job.progress_done, job.progress_total, job.progress_message))
        finish(context)

    job = bench.perform(report)
    assert (job.progress_done, job.progress_message) == (10, "")
    assert seen == [(3, 10, "3 of 10 images")]


def test_progress_writes_at_most_four_times_a_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.25)
    writes: list[int] = []

    def report(context: JobContext) -> None:
        monkeypatch.setattr(
            context, "_write_progress", lambda **values: writes.append(values["progress_done"])
        )
        for step in range(1000):
            context.progress(step, 1000)
        finish(context)

    bench.perform(report)
    assert 1 <= len(writes) <= 4


def test_the_time_left_follows_the_pace_of_this_attempt_alone() -> None:
    pace = jobs.Pace()
    assert pace.seconds_left(50, 100, 10.0) is None  # resumed half way: nothing measured yet
    assert pace.seconds_left(50, 100, 13.0) is None
    assert pace.seconds_left(60, 100, 23.0) == pytest.approx(40.0)
    assert pace.seconds_left(0, 7, 30.0) is None  # other units


def test_the_first_seconds_give_no_estimate_and_do_not_count() -> None:
    pace = jobs.Pace()
    slow_start = [(0, 0.0), (1, 1.0), (1, 1.9)]
    assert [pace.seconds_left(done, 100, clock) for done, clock in slow_start] == [None] * 3
    assert pace.seconds_left(2, 100, 2.1) is None
    assert pace.seconds_left(12, 100, 4.1) is None  # two seconds of pace are too few
    assert pace.seconds_left(27, 100, 7.1) == pytest.approx(14.6)


def test_a_job_of_several_phases_has_a_single_bar_that_never_runs_backwards(bench: Bench) -> None:
    shown: list[float] = []

    def look(context: JobContext) -> None:
        job = bench.job()
        shown.append(job.progress_done / job.progress_total)

    def report(context: JobContext) -> None:
        context.phase(0.0, 0.8)
        for done in (1, 5, 10):
            context.progress(done, 10)
            look(context)
        context.phase(0.8, 0.9)
        for done, total in ((0, 200), (100, 200), (0, 0), (10, 200)):
            context.progress(done, total)
            look(context)
        context.phase(0.9, 1.0)
        context.progress(4, 4)
        look(context)
        finish(context)

    assert bench.perform(report).state == "done"
    assert shown == pytest.approx([0.08, 0.4, 0.8, 0.8, 0.85, 0.85, 0.85, 1.0])


def test_a_bar_whose_total_changes_does_not_run_backwards() -> None:
    bar = Bar()
    assert bar.place(50, 100) == (50, 100)
    assert bar.place(60, 200) == (100, 200)
    assert bar.place(150, 200) == (150, 200)


def test_the_heartbeat_goes_on_while_the_work_is_silent(bench: Bench) -> None:
    beats: list[object] = []

    def sleep(context: JobContext) -> None:
        for _ in range(2):
            beats.append(bench.job().heartbeat_at)
            time.sleep(0.2)
        finish(context)

    bench.perform(sleep)
    assert beats[0] != beats[1]


def test_a_cancel_stops_the_work_at_its_next_step(bench: Bench) -> None:
    def be_cancelled(context: JobContext) -> None:
        bench.change(cancel_requested=True)
        context.progress(1, 2)
        finish(context)

    job = bench.perform(be_cancelled)
    assert (job.state, results(bench)) == ("cancelled", 0)
    assert bench.log()[-1] == "Cancelled."


def test_a_lost_claim_stops_the_work_and_leaves_the_row_to_its_new_owner(bench: Bench) -> None:
    def lose(context: JobContext) -> None:
        bench.change(claim="somebody else")
        context.progress(1, 2)
        finish(context)

    job = bench.perform(lose)
    assert (job.state, job.claim, results(bench)) == ("running", "somebody else", 0)


def test_results_of_an_attempt_that_lost_its_claim_are_not_written(bench: Bench) -> None:
    def lose_at_the_end(context: JobContext) -> None:
        bench.change(claim="somebody else")
        finish(context)

    job = bench.perform(lose_at_the_end)
    assert (job.state, results(bench)) == ("running", 0)


def test_results_and_the_state_done_are_written_together_or_not_at_all(bench: Bench) -> None:
    def fail_while_writing(context: JobContext) -> None:
        with context.finish() as session:
            session.add(User(name="half", role="owner"))
            session.flush()
            raise jobs.JobFailed("The second half is missing.")

    job = bench.perform(fail_while_writing)
    assert (job.state, job.error, results(bench)) == ("failed", "The second half is missing.", 0)


def test_an_error_of_the_engine_reaches_the_person_as_its_sentence(bench: Bench) -> None:
    def diverge(_context: JobContext) -> None:
        raise Diverged(3, 1.5)

    job = bench.perform(diverge)
    assert job.state == "failed"
    assert "diverged in epoch 3" in (job.error or "")


def test_an_unexpected_error_gives_a_plain_sentence_and_its_traceback_to_the_workers_log_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(_context: JobContext) -> None:
        raise KeyError("secret detail")

    job = bench.perform(stumble)
    assert job.state == "failed"
    assert "unexpected" in (job.error or "")
    assert "secret detail" not in (job.error or "")
    assert "Traceback" not in " ".join(bench.log())
    assert "secret detail" not in " ".join(bench.log())
    assert "KeyError: 'secret detail'" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OperationalError("INSERT", {}, Exception("database or disk is full")),
    ],
)
def test_a_full_disk_fails_the_job_with_a_sentence(bench: Bench, error: Exception) -> None:
    def fill(_context: JobContext) -> None:
        raise error

    job = bench.perform(fill)
    assert (job.state, job.error) == ("failed", jobs.DISK_FULL)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 TB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_a_lack_of_memory_fails_the_job_with_a_sentence(bench: Bench, error: Exception) -> None:
    def fill(_context: JobContext) -> None:
        raise ValueError("while decoding") from error

    job = bench.perform(fill)
    assert (job.state, job.error) == ("failed", jobs.OUT_OF_MEMORY)


def test_a_database_that_is_really_full_fails_the_job_and_stays_intact(bench: Bench) -> None:
    def fill(context: JobContext) -> None:
        try:
            with context.finish() as session:
                # SQLite itself then says "database or disk is full".
                connection = session.connection()
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}")
                session.add_all(
                    JobLogLine(job_id=context.job_id, message="x" * 4000) for _ in range(200)
                )
        finally:
            context.database.close()  # room again: the limit was this connection's

    job = bench.perform(fill)
    assert (job.state, job.error) == ("failed", jobs.DISK_FULL)
    with create_engine(bench.settings.database).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_a_database_that_is_away_for_a_moment_does_not_end_the_work(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def report(context: JobContext) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(context.heartbeat, "write", _away)
            for done in range(5):
                context.progress(done, 5)
        finish(context)

    with caplog.at_level(logging.INFO):
        assert bench.perform(report).state == "done"
    assert caplog.text.count("No progress of job 1 is written") == 1


def _away(*_args: object, **_values: object) -> None:
    raise OperationalError("UPDATE", {}, Exception("server closed the connection"))


def test_a_worker_that_is_asked_to_end_gives_its_job_back_and_the_attempt_is_not_counted(
    bench: Bench,
) -> None:
    def be_stopped(context: JobContext) -> None:
        jobs.stopping.set()
        context.progress(1, 2)
        finish(context)

    job = bench.perform(be_stopped)
    assert (job.state, job.attempts, job.claim, results(bench)) == ("queued", 0, None, 0)
    assert bench.sent == [bench.job_id]


def test_a_job_that_kills_its_worker_each_time_is_given_up_with_a_sentence(bench: Bench) -> None:
    for _ in range(3):
        assert jobs.claim(bench.job_id, bench.database, 3) is not None
        bench.change(state="queued", claim=None)
    job = bench.perform(finish)
    assert (job.state, job.attempts, results(bench)) == ("failed", 3, 0)
    assert "Given up after 3 attempts in which it got no further" in (job.error or "")


def test_five_kills_of_a_job_that_gets_further_each_time_do_not_give_it_up(bench: Bench) -> None:
    for _ in range(5):
        claimed = jobs.claim(bench.job_id, bench.database, 3)
        assert claimed is not None
        JobContext(claimed, bench.database, bench.storage, bench.settings).note_safe_point()
        bench.change(state="queued", claim=None)
    job = bench.perform(finish)
    assert (job.state, job.attempts, results(bench)) == ("done", 6, 1)


def test_progress_of_an_attempt_that_lost_its_claim_does_not_count(bench: Bench) -> None:
    claimed = jobs.claim(bench.job_id, bench.database, 3)
    assert claimed is not None
    bench.change(claim="another")
    JobContext(claimed, bench.database, bench.storage, bench.settings).note_safe_point()
    assert bench.job().attempts_without_progress == 1


def test_a_job_that_fails_while_it_is_being_cancelled_is_cancelled(bench: Bench) -> None:
    def fail_when_cancelled(_context: JobContext) -> None:
        bench.change(cancel_requested=True)
        raise jobs.JobFailed("The decoder ended.")

    job = bench.perform(fail_when_cancelled)
    assert (job.state, job.error, bench.log()[-1]) == ("cancelled", None, "Cancelled.")


@pytest.mark.parametrize("asked", ["cancel", "stop", "lost"])
def test_work_that_never_reports_is_interrupted(bench: Bench, asked: str) -> None:
    def be_silent(context: JobContext) -> None:
        began = time.monotonic()
        if asked == "stop":
            jobs.stopping.set()
        else:
            bench.change(**({"cancel_requested": True} if asked == "cancel" else {"claim": "b"}))
        while time.monotonic() < began + 5:
            time.sleep(0.01)
        raise AssertionError("was not interrupted")

    began = time.monotonic()
    job = bench.perform(be_silent)
    assert job.state == {"cancel": "cancelled", "stop": "queued", "lost": "running"}[asked]
    assert time.monotonic() - began < 2


def test_what_is_written_last_is_never_interrupted(bench: Bench) -> None:
    def write_slowly(context: JobContext) -> None:
        with context.finish() as session:
            session.connection().exec_driver_sql("UPDATE jobs SET cancel_requested = 1")
            time.sleep(0.3)
            session.add(User(name="result", role="owner"))

    assert bench.perform(write_slowly).state == "done"
    assert results(bench) == 1


def test_a_stopped_job_may_clean_up_undisturbed(bench: Bench) -> None:
    cleaned: list[bool] = []

    def clean_up(_context: JobContext) -> None:
        bench.change(cancel_requested=True)
        try:
            time.sleep(5)
        finally:
            time.sleep(0.3)
            cleaned.append(True)

    assert bench.perform(clean_up).state == "cancelled"
    assert cleaned == [True]


def test_native_work_that_cannot_be_interrupted_ends_with_its_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(heartbeat, "PATIENCE_SECONDS", 0.2)
    # Python's handlers wait for native code to return; this work pretends to be such code.
    monkeypatch.setattr(heartbeat.Heartbeat, "_on_interrupt", lambda *_: None)
    monkeypatch.setattr(jobs, "begin_again", lambda: ended.append(bench.job().state))

    def compute(_context: JobContext) -> None:
        bench.change(cancel_requested=True)
        until(lambda: bool(ended))
        raise jobs.ClaimLost  # an exec would end it

    assert bench.perform(compute).state == "cancelled"
    assert ended[0] == "cancelled"


@pytest.mark.slow
def test_work_that_neither_reports_nor_computes_is_stuck(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(heartbeat, "STUCK_SECONDS", 0.3)
    monkeypatch.setattr(heartbeat, "IDLE_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat, "IDLE_SHARE", 0.5)
    monkeypatch.setattr(jobs, "begin_again", lambda: ended.append(bench.job().state))

    def compute_then_hang(_context: JobContext) -> None:
        busy = time.monotonic() + 0.8
        while time.monotonic() < busy:
            sum(range(1000))
        assert ended == []
        until(lambda: bool(ended))
        raise jobs.ClaimLost

    assert bench.perform(compute_then_hang).state == "queued"
    assert bench.job().attempts == 1  # it counts: such work may hang each time


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pipeline_that_finds_nothing_to_do_ends_its_job(bench: Bench) -> None:
    assert bench.perform(lambda _context: None).state == "done"


def test_of_two_claims_one_wins(bench: Bench) -> None:
    first = jobs.claim(bench.job_id, bench.database, 3)
    second = jobs.claim(bench.job_id, bench.database, 3)
    assert first is not None
    assert second is None
    assert bench.job().claim == first.claim


def test_a_starting_worker_takes_back_what_a_dead_process_of_this_machine_held(
    bench: Bench,
) -> None:
    gone = claims.new().split(":")
    bench.change(
        state="running", claim=":".join([gone[0], "999999999", *gone[2:]]), heartbeat_at=now()
    )
    assert jobs.release_dead(bench.database) == [bench.job_id]
    assert (bench.job().state, bench.sent) == ("queued", [bench.job_id])


def test_a_process_number_that_was_given_to_another_process_counts_as_dead() -> None:
    machine, pid, _, random = claims.new().split(":")
    assert claims.is_dead(":".join([machine, pid, "1000.0", random]))


def test_two_hosts_of_the_same_name_do_not_take_each_others_jobs() -> None:
    machine, _, start, random = claims.new().split(":")
    host, _boot, namespace = machine.split("/")
    other = "/".join([host, "0123456789abcdef", namespace])
    assert claims.is_dead(":".join([machine, "999999999", start, random]))
    assert not claims.is_dead(":".join([other, "999999999", start, random]))
    assert len(claims.new()) <= 120


@pytest.mark.parametrize("claim", ["elsewhere/1:1:1.0:abc", "no claim of ours", ""])
def test_a_starting_worker_leaves_alone_what_it_cannot_judge(bench: Bench, claim: str) -> None:
    bench.change(state="running", claim=claim, heartbeat_at=now())
    assert jobs.release_dead(bench.database) == []
    assert bench.job().state == "running"


def test_a_starting_worker_leaves_living_processes_alone(bench: Bench) -> None:
    assert jobs.claim(bench.job_id, bench.database, 3) is not None
    assert jobs.release_dead(bench.database) == []


def test_a_dead_workers_job_that_should_stop_is_cancelled_not_repeated(bench: Bench) -> None:
    gone = claims.new().split(":")
    bench.change(
        state="running", claim=":".join([gone[0], "999999999", *gone[2:]]), cancel_requested=True
    )
    jobs.release_dead(bench.database)
    job = bench.job()
    assert (job.state, bench.sent) == ("cancelled", [])
    assert job.finished_at is not None
