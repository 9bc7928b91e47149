"""Commands for the servers, together or alone."""

import gc
import logging
import os
import re
import signal
import socket
import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import httpx2
import typer
import uvicorn
from kombu.exceptions import OperationalError

from backend import migrations
from backend.cli import supervisor
from backend.cli.console import say, show
from backend.cli.opening import make_settings
from backend.core import liveness, queue
from backend.core.errors import Conflict
from backend.core.invocation import winnow
from backend.core.settings import Settings

# Python's own 5 ms would let a decision of ten statements wait ten times.
SWITCH_SECONDS = 0.0005

Host = Annotated[
    str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set (WINNOW_HOST).")
]


class WorkerLane(StrEnum):
    """Jobs that a worker takes."""

    ALL = "all"
    QUICK = "quick"


Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port to listen on; 8000 unless set (WINNOW_PORT); 0 is any free one.",
    ),
]


def up(host: Host = None, port: Port = None) -> None:
    """Start broker, worker and web together; Ctrl-C stops all three."""

    def started(_: supervisor.Supervisor, serving: Settings) -> None:
        say(
            f"Winnow listens at {supervisor.address(serving)} (logs: {serving.home / 'logs'}). A "
            f"login link: {winnow()} login-link"
        )

    supervisor.up(make_settings(host=host, port=port), say, started)


def serve(
    host: Host = None,
    port: Port = None,
    door: Annotated[
        int | None,
        typer.Option(
            "--socket", hidden=True, help="A listening socket's number, from the supervisor."
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(hidden=True, help="Which of the web's processes this is, from 1."),
    ] = None,
) -> None:
    """Start the web alone, for machines where something else starts the workers and the broker."""
    settings = make_settings(host=host, port=port)
    migrations.prepare(settings)
    if door is not None:
        _serve(settings, socket.socket(fileno=door), number)
        return
    with supervisor.listen(settings.host, settings.port) as listening:
        say(f"Winnow's web listens at {supervisor.address(settings)}.")
        _serve(settings, listening, number)


def _serve(settings: Settings, door: socket.socket, number: int | None) -> None:
    """Be the web, or one of its processes, or start them all."""
    if number is None and settings.web_processes > 1:
        supervisor.serve(settings, door, say)
        return
    # Slow to load, so other commands start without them.
    from backend.main import create_app
    from backend.web.connections import KEEP_ALIVE_SECONDS, Connection, Limits

    made = uvicorn.Config(
        create_app(settings, sweeps=number in (None, 1)),
        http=partial(Connection, Limits.of(settings)),  # type: ignore[arg-type] # makes one
        log_level="info",
        timeout_graceful_shutdown=5,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        proxy_headers=True,
    )
    logging.getLogger("uvicorn.access").addFilter(without_secrets)
    _run(made, door)


def _run(made: uvicorn.Config, door: socket.socket) -> None:
    # The program stays: collecting garbage need not look through it again and again.
    gc.collect()
    gc.freeze()
    # A transaction's thread gives the interpreter away at each statement, and is in a hurry.
    sys.setswitchinterval(SWITCH_SECONDS)
    # uvicorn ends by the signal that stopped it, which would look like a crash.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(made).run(sockets=[door])


def without_secrets(record: logging.LogRecord) -> bool:
    """Keep login links out of the request log: an unused link signs its reader in."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            re.sub(r"token=[^&]+", "token=…", part) if isinstance(part, str) else part
            for part in record.args
        )
    return True


def worker(
    lane: Annotated[
        WorkerLane | None,
        typer.Option(help="Jobs to take: all, the quick ones first, or quick ones only."),
    ] = None,
) -> None:
    """Start one worker alone; start several for several jobs at a time."""
    settings = make_settings(lane=lane and lane.value)
    migrations.prepare(settings)
    os.environ["WINNOW_LANE"] = settings.lane
    # Become the worker: the web never imports it.
    os.execv(sys.executable, [sys.executable, "-m", "worker.app"])  # noqa: S606 - fixed arguments


def migrate(
    adopt_folder: Annotated[
        bool,
        typer.Option(
            "--adopt-folder", help="Take WINNOW_HOME as the database's folder, whatever it was."
        ),
    ] = False,
) -> None:
    """Bring the database to this program's schema."""
    settings = make_settings()
    migrations.upgrade(settings, adopt_folder=adopt_folder)
    say(f"The database is at revision {migrations.head()}.")


def health(
    web: Annotated[bool, typer.Option("--web", help="Ask the web, not the broker.")] = False,
) -> None:
    """Check that database and broker, or the web, answer; the exit status tells supervisors."""
    settings = make_settings()
    if web:
        _ask_web(settings)
        return
    migrations.require_present(settings)
    migrations.require_current(settings)
    queue.configure(settings.broker)
    try:
        waiting = queue.count_messages()
    except (OperationalError, OSError) as error:
        raise Conflict(
            f"The broker does not answer ({error}). Look at WINNOW_BROKER_URL, or start it."
        ) from error
    workers = liveness.signs(settings.home)
    alive = sum(worker.is_fresh for worker in workers)
    say(f"Database and broker answer; {waiting} messages wait. Workers alive: {alive}.")
    show(
        ("host", "process", "takes", "last sign of life"),
        [(worker.host, worker.pid, worker.work, f"{worker.age:.0f} s ago") for worker in workers],
    )


def _ask_web(settings: Settings) -> None:
    where = supervisor.running_address(settings) or supervisor.address(
        settings.model_copy(update={"public_url": ""})
    )
    try:
        httpx2.get(f"{where}/health", timeout=10, trust_env=False).raise_for_status()
    except httpx2.HTTPError as error:
        raise Conflict(f"The web does not answer at {where} ({error}).") from error
    say(f"The web answers at {where}.")
