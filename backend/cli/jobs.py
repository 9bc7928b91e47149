"""Commands for jobs; they need the database, not the web."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer

from backend.cli.client import ENDED, JobEnded
from backend.cli.console import bar, say, show
from backend.cli.opening import acting, is_running, make_settings, transaction
from backend.core.db import Database
from backend.core.errors import Invalid
from backend.core.invocation import winnow
from backend.core.job_lifecycle import STATES
from backend.core.models import Job
from backend.jobs import service

app = typer.Typer(no_args_is_help=True, help="Queued and running work.")
POLL_SECONDS = 0.3

JobId = Annotated[
    int, typer.Argument(metavar="JOB", help="The job's number, as `winnow jobs list` shows it.")
]


@app.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option(help=f"Only those that are {', '.join(STATES)}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> None:
    """List jobs, newest first: number, kind, state, progress, title."""
    if state is not None and state not in STATES:
        raise Invalid(f"There is no state {state!r}; there are {', '.join(STATES)}.")
    with transaction(write=False) as session:
        found, _ = service.page(session, state=state, limit=limit)
    show(
        ("job", "kind", "state", "progress", "title"),
        [(job.id, job.kind, job.state, _progress(job), job.title) for job in found],
    )


@app.command("show")
def show_job(
    job_id: JobId,
    lines: Annotated[int, typer.Option(min=0, help="How many lines of its log.")] = 20,
) -> None:
    """Show one job: how far it is, how it ended, and the end of its log."""
    with transaction(write=False) as session:
        job = service.get(session, acting(session), job_id)
        log = service.log_tail(session, job, lines)
        ahead = service.describe_waiting(session, job)
    about = [
        ("job", job.id),
        ("title", job.title),
        ("state", job.state),
        ("progress", _progress(job)),
        ("attempts", job.attempts),
    ]
    moments = [("created", job.created_at), ("started", job.started_at), ("ended", job.finished_at)]
    about += [(name, _local(moment)) for name, moment in moments if moment]
    about += [("waiting", ahead)] if ahead else []
    show(("", ""), about + ([("error", job.error)] if job.error else []))
    show(("when", "log"), [(_local(line.at), line.message) for line in log])


@app.command("cancel")
def cancel_job(job_id: JobId) -> None:
    """Stop a job: a queued one at once, a running one at its next step."""
    with transaction() as session:
        job = service.cancel(session, acting(session), job_id)
    say(
        f"Job {job.id} is cancelled."
        if job.state == "cancelled"
        else f"Job {job.id} stops at its next step."
    )


@app.command("retry")
def retry_job(job_id: JobId) -> None:
    """Queue a failed or cancelled job again."""
    with transaction() as session:
        job = service.retry(session, acting(session), job_id)
    later = (
        "" if is_running(make_settings()) else f"; it starts as soon as Winnow runs ({winnow()} up)"
    )
    say(f"Job {job.id} is queued again{later}.")


def follow(database: Database, job_id: int, title: str) -> None:
    """Wait until a job is done or asks a question, with a progress bar. Raises JobEnded."""
    with bar(title) as move:
        job = _wait(database, job_id, move)
    if job.state not in ("done", "asking"):
        raise JobEnded(f"{job.title}: {job.error or 'it was cancelled.'}")


def _wait(database: Database, job_id: int, move: Callable[[int, int, str], None]) -> Job:
    while True:
        with database.transaction(write=False) as session:
            job = session.get(Job, job_id)
        if job is None:
            raise JobEnded("The job was deleted together with its data set.")
        if job.state in (*ENDED, "asking"):
            return job
        move(
            job.progress_done,
            job.progress_total,
            "waits for a worker" if job.state == "queued" else job.progress_message,
        )
        time.sleep(POLL_SECONDS)


def _progress(job: Job) -> str:
    return f"{100 * job.progress_done / job.progress_total:.0f} %" if job.progress_total else ""


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
