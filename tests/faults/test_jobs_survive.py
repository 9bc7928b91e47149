"""kill -9 of worker and broker at random moments: no short job is lost or counts twice."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from backend.core import job_lifecycle, queue
from backend.core.db import Database
from backend.core.job_kinds import Lane
from backend.core.models import Base, Job, JobLogLine
from backend.core.settings import Settings
from backend.jobs import service
from backend.jobs.sweep import Sweep
from tests.faults.counting import STEPS, expected
from tests.faults.machine import Machine, python
from tests.running import wait_until

pytestmark = pytest.mark.faults


class Yard:
    """A machine with a broker and a counting worker, and its database."""

    def __init__(self, home: Path, **environment: str) -> None:
        counting = python("-m", "tests.faults.counting")
        self.machine = Machine(
            home,
            {"worker": counting, "quick worker": ["env", "WINNOW_LANE=quick", *counting]},
            **environment,
        )
        self.settings = Settings(home=home, sweep_seconds=0.5, heartbeat_timeout_seconds=3)
        self.database = Database(self.settings.database)
        self.sweep = Sweep(self.database, self.settings)
        Base.metadata.create_all(self.database.engine)
        queue.configure(self.settings.broker)
        self.machine.start("broker")
        self.machine.start("worker")

    def add_jobs(self, number: int, lane: Lane = "long", kind: str = "train") -> list[int]:
        with self.database.transaction() as session:
            known = session.scalar(select(func.count()).select_from(Job)) or 0
            return [
                service.create(
                    session,
                    None,
                    kind=kind,
                    title="Count",
                    subject_id=subject,
                    data_set_id=None,
                    lane=lane,
                ).id
                for subject in range(known + 1, known + number + 1)
            ]

    def states(self) -> list[str]:
        with self.database.transaction(write=False) as session:
            return list(session.scalars(select(Job.state).order_by(Job.id)))

    def job(self, job_id: int) -> Job:
        with self.database.transaction(write=False) as session:
            return session.get_one(Job, job_id)

    def attempts(self) -> int:
        """Count the starts of all jobs."""
        with self.database.transaction(write=False) as session:
            return session.scalar(select(func.sum(Job.attempts))) or 0

    def results(self) -> list[str]:
        with self.database.transaction(write=False) as session:
            query = (
                select(JobLogLine.message)
                .where(JobLogLine.message.startswith("result "))
                .order_by(JobLogLine.job_id)
            )
            return [message.removeprefix("result ") for message in session.scalars(query)]

    def cancel(self, job_id: int) -> None:
        with self.database.transaction() as session:
            job_lifecycle.cancel_job(session, job_id, "Olga")

    def wait_for_progress(self, job_id: int) -> None:
        wait_until(lambda: self.job(job_id).progress_done > 0, 40, f"progress of job {job_id}")

    def wait_for_another_attempt(self, attempts: int) -> None:
        wait_until(lambda: self.attempts() > attempts, 40, "a job to be begun")

    def wait_for_all(self, seconds: float = 60) -> None:
        wait_until(
            lambda: set(self.states()) == {"done"},
            seconds,
            f"all jobs to be done; they are {self.states()}",
        )

    def close(self) -> None:
        self.machine.close()
        self.database.close()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    yard.close()


def test_killed_workers_and_brokers_lose_no_job_and_double_none(yard: Yard) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    dice = random.Random(seed)
    yard.sweep.start()
    jobs, attempts = yard.add_jobs(12), 0
    for victim in dice.sample(["worker", "worker", "worker", "worker", "broker", "broker"], 6):
        yard.wait_for_another_attempt(attempts)
        time.sleep(dice.uniform(0.0, 0.5))
        attempts = yard.attempts()
        yard.machine.kill(victim)
        assert set(yard.states()) != {"done"}
        yard.machine.start(victim)
    yard.wait_for_all()
    yard.sweep.stop()
    assert yard.attempts() > len(jobs)
    assert yard.results() == [expected(subject) for subject in range(1, len(jobs) + 1)]


def test_a_restarted_worker_goes_on_at_once_with_what_its_dead_predecessor_left(yard: Yard) -> None:
    (job_id,) = yard.add_jobs(1)
    yard.wait_for_progress(job_id)
    yard.machine.kill("worker")
    yard.machine.start("worker")  # no sweep runs here: the start must do it
    yard.wait_for_all()
    assert (yard.job(job_id).attempts, yard.results()) == (2, [expected(1)])


def test_a_worker_that_never_returns_is_noticed_by_its_silence(yard: Yard) -> None:
    (job_id,) = yard.add_jobs(1)
    yard.wait_for_progress(job_id)
    yard.machine.kill("worker")
    yard.sweep.start()
    wait_until(lambda: yard.job(job_id).state == "queued", 40, "the sweep to notice")
    yard.sweep.stop()


def test_a_stopped_worker_ends_within_seconds_and_its_job_goes_on_elsewhere(yard: Yard) -> None:
    (job_id,) = yard.add_jobs(1)
    yard.wait_for_progress(job_id)
    began = time.monotonic()
    assert yard.machine.stop("worker") == 0
    assert time.monotonic() - began < 5
    job = yard.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert 0 < job.progress_done < STEPS
    yard.machine.start("worker")
    yard.wait_for_all()
    assert yard.results() == [expected(1)]


def test_a_worker_takes_quick_jobs_before_long_ones(yard: Yard) -> None:
    yard.machine.stop("worker")
    yard.add_jobs(2)
    (quick,) = yard.add_jobs(1, lane="quick")
    yard.machine.start("worker")
    wait_until(lambda: yard.job(quick).state == "done", 40, "the quick job")
    assert yard.states()[:2] != ["done", "done"]
    assert yard.job(quick).started_at == min(
        job.started_at for job in map(yard.job, (1, 2, quick)) if job.started_at
    )


def test_a_quick_worker_does_quick_jobs_while_another_trains(yard: Yard) -> None:
    yard.add_jobs(3)
    yard.machine.start("quick worker")
    (quick,) = yard.add_jobs(1, lane="quick")
    wait_until(lambda: yard.job(quick).state == "done", 40, "the quick job")
    assert "done" not in yard.states()[1:3]


def test_native_work_is_cancelled_within_five_seconds_and_the_next_job_is_done(
    yard: Yard,
) -> None:
    (stuck,) = yard.add_jobs(1, kind="score")
    yard.add_jobs(1)
    wait_until(lambda: yard.job(stuck).state == "running", 40, "the native work")
    began = time.monotonic()
    yard.cancel(stuck)
    wait_until(lambda: yard.job(stuck).state == "cancelled", 5, "the cancel")
    print(f"cancelled after {time.monotonic() - began:.1f} s")
    wait_until(lambda: yard.states() == ["cancelled", "done"], 20, "the next job")


def test_native_work_goes_back_to_the_queue_when_its_worker_must_end(yard: Yard) -> None:
    (stuck,) = yard.add_jobs(1, kind="score")
    wait_until(lambda: yard.job(stuck).state == "running", 40, "the native work")
    assert yard.machine.stop("worker", 8) == 0
    job = yard.job(stuck)
    assert (job.state, job.attempts) == ("queued", 0)


def test_kills_of_jobs_that_get_further_never_give_them_up(tmp_path: Path) -> None:
    yard = Yard(tmp_path, WINNOW_MAX_ATTEMPTS="2")
    try:
        (job_id,) = yard.add_jobs(1)
        for kill in range(5):
            wait_until(
                lambda kill=kill: yard.job(job_id).progress_done >= 3 * (kill + 1),
                40,
                f"progress before kill {kill}",
            )
            yard.machine.kill("worker")
            yard.machine.start("worker")
        yard.wait_for_all()
        assert yard.results() == [expected(1)]
        assert yard.job(job_id).attempts > 2
    finally:
        yard.close()


def test_a_broker_that_comes_back_empty_is_filled_from_the_rows(yard: Yard) -> None:
    yard.machine.stop("worker")
    yard.add_jobs(3)
    yard.machine.kill("broker")
    yard.machine.start("broker")
    yard.machine.start("worker")
    yard.sweep.start()
    yard.wait_for_all()
    yard.sweep.stop()
    assert len(yard.results()) == 3


def test_the_same_message_delivered_many_times_counts_once(yard: Yard) -> None:
    (job_id,) = yard.add_jobs(1)
    for _ in range(5):
        queue.send(job_id)
    yard.wait_for_all()
    wait_until(lambda: queue.count_messages() == 0, 40, "the worker to look at every message")
    with yard.database.transaction(write=False) as session:
        starts = session.scalar(
            select(func.count())
            .select_from(JobLogLine)
            .where(JobLogLine.message.startswith("Started"))
        )
    assert (starts, yard.results()) == (1, [expected(1)])


def test_a_message_of_an_unknown_task_harms_no_job_and_the_sweep_sends_another(yard: Yard) -> None:
    yard.machine.stop("worker")
    (job_id,) = yard.add_jobs(1)
    with queue.celery_app.connection_for_write() as connection:
        connection.default_channel.queue_purge(queue.QUEUE)
    # As an earlier release sent it, and left it in the broker when it was replaced.
    queue.celery_app.send_task("winnow.train", args=[job_id], queue=queue.QUEUE)
    yard.machine.start("worker")
    wait_until(lambda: queue.count_messages() == 0, 40, "the worker to drop the message")
    assert yard.job(job_id).state == "queued"
    yard.sweep.start()
    yard.wait_for_all()
    yard.sweep.stop()
    assert (yard.job(job_id).attempts, yard.results()) == (1, [expected(1)])
    assert "unregistered task of type" in yard.machine.log.read_text()
