"""A running `winnow up` in a scratch folder, with its API as an owner and its database."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import func, select

from backend.accounts import service as accounts
from backend.cli.supervisor import running_address
from backend.core.db import Database
from backend.core.models import Job, JobLogLine, User
from backend.core.settings import Settings

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "backend.cli")
# Marks of processes' command lines. Not "serve": it is in "valkey-server" too.
MARKS = {"worker": "worker.app", "web": "--socket", "broker": "valkey-server"}
DRAWS = 12


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `true`; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


def until_it_hits(disturb: Callable[[], bool]) -> None:
    """Disturb at random moments until a disturbance hits: the work may end before its moment.

    disturb: starts the work, disturbs it, checks the result, and returns True for a hit.
    """
    assert any(disturb() for _ in range(DRAWS)), f"none of {DRAWS} disturbances hit"


def seconds_of_a_job(database: Database, kind: str) -> float:
    """Return the duration of the newest such job that was done at its first attempt."""
    with database.transaction(write=False) as session:
        of_kind = (Job.kind == kind, Job.state == "done", Job.attempts == 1)
        job = session.scalars(select(Job).where(*of_kind).order_by(Job.id.desc()).limit(1)).one()
        assert job.started_at is not None
        assert job.finished_at is not None
        return (job.finished_at - job.started_at).total_seconds()


class Winnow:
    """A running `winnow up` on a free port. Empty addresses: SQLite and the embedded broker."""

    def __init__(
        self, home: Path, *, database_url: str = "", broker_url: str = "", max_attempts: int = 50
    ) -> None:
        self.home = home
        self.settings = Settings(home=home, database_url=database_url, broker_url=broker_url)
        self.environment = os.environ | {
            "WINNOW_HOME": str(home),
            "WINNOW_DATABASE_URL": database_url,
            "WINNOW_BROKER_URL": broker_url,
            "WINNOW_SWEEP_SECONDS": "0.5",
            "WINNOW_MAX_ATTEMPTS": f"{max_attempts}",
            # So that a kill of the worker hits the work.
            "WINNOW_QUICK_WORKER": "false",
        }
        if database_url:
            self.run("migrate")
        self.output = (home / "up.log").open("wb")
        self.supervisor = subprocess.Popen(
            [*COMMAND, "up", "--port", "0"],
            cwd=ROOT,
            env=self.environment,
            stdout=self.output,
            stderr=self.output,
        )
        wait_until(
            lambda: running_address(self.settings) is not None,
            30,
            f"winnow up; it says {(home / 'up.log').read_text()}",
        )
        self.address = running_address(self.settings) or ""
        self.database = Database(self.settings.database)
        wait_until(lambda: self.find("worker") is not None, 30, "the worker to start")
        with self.database.transaction() as session:
            owner = accounts.create_user(session, "Olga", "owner")
            token = accounts.create_token(session, owner, "tests")
        self.client = httpx2.Client(
            base_url=f"{self.address}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )

    def run(self, *arguments: str) -> str:
        """Run a command of `winnow` on this folder; returns its output."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def login_link(self, name: str = "Olga") -> str:
        """The address of a page on this Winnow whose button signs that person in, once."""
        with self.database.transaction() as session:
            user = session.scalars(select(User).where(User.name == name)).one()
            return f"{self.address}/?token={accounts.issue_login_link(session, user)}"

    def find(self, name: str) -> psutil.Process | None:
        """The process of this name that is alive now."""
        for child in psutil.Process(self.supervisor.pid).children():
            try:
                if child.status() != psutil.STATUS_ZOMBIE and any(
                    MARKS[name] in part for part in child.cmdline()
                ):
                    return child
            except psutil.NoSuchProcess:
                continue
        return None

    def kill(self, name: str) -> None:
        """SIGKILL, once it is there to be killed; the supervisor starts it again."""
        wait_until(lambda: self.find(name) is not None, 30, f"the {name} to be there")
        process = self.find(name)
        assert process is not None
        process.kill()

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """POST once; the web must be up."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def answers(self) -> bool:
        """Return True if web and database answer."""
        try:
            return self.client.get("/jobs").status_code == 200
        except httpx2.TransportError:
            return False

    def job(self, job_id: int) -> Job:
        with self.database.transaction(write=False) as session:
            return session.get_one(Job, job_id)

    def is_on(self, job_id: int) -> bool:
        """Return True until the job ends; after a kill, True means that it hit."""
        return self.job(job_id).state in ("queued", "running")

    def wait_for_share(self, job_id: int, share: float) -> None:
        """Wait until the job has done this share or has ended; check `is_on` after a kill."""

        def reached() -> bool:
            job = self.job(job_id)
            running = (
                job.state == "running"
                and job.progress_total > 0
                and job.progress_done >= share * job.progress_total
            )
            return running or job.state in ("done", "failed")

        wait_until(reached, 120, f"{share:.0%} of job {job_id}")

    def wait_for_end(self, job_id: int) -> Job:
        wait_until(lambda: not self.is_on(job_id), 240, f"job {job_id} to end")
        job = self.job(job_id)
        assert job.state == "done", job.error
        return job

    def times_finished(self, job_id: int) -> int:
        with self.database.transaction(write=False) as session:
            lines = select(func.count()).where(
                JobLogLine.job_id == job_id, JobLogLine.message == "Done."
            )
            return session.scalar(lines) or 0

    def rows(self, query: Any) -> list[tuple[Any, ...]]:
        with self.database.transaction(write=False) as session:
            return [tuple(row) for row in session.execute(query)]

    def close(self) -> None:
        """End it, and print the end of its output, which pytest shows on failure."""
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait(20)
        self.client.close()
        self.database.close()
        self.output.close()
        for log in sorted((self.home / "logs").glob("*.log")):
            print(f"── {log.name}\n{log.read_text(errors='replace')[-3000:]}")
