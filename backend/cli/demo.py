"""`winnow demo`: the servers, and the journey over the API."""

import threading
from collections.abc import Callable

import typer

from backend.cli import journey, supervisor
from backend.cli.console import console, say
from backend.cli.opening import make_settings, opened
from backend.cli.serving import Host, Port
from backend.core.db import Database
from backend.core.settings import Settings

INTERRUPTED = 130


def demo(host: Host = None, port: Port = None) -> None:
    """Start Winnow with the sample data set, trained and scored, and print a login link."""
    serve_while(make_settings(host=host, port=port), journey.show_link, stay=True)


def serve_while(
    settings: Settings, act: Callable[[Settings, Database], None], *, stay: bool = False
) -> None:
    """Start all servers, and run `act` alongside.

    Args:
        settings: of the servers.
        act: called with the settings in use and a database, once the web listens.
        stay: keep serving after `act`, until stopped.

    Raises:
        typer.Exit: interrupted before `act` ended.
        BaseException: from `act`.
    """
    outcomes: list[BaseException | None] = []

    def drive(servers: supervisor.Supervisor, serving: Settings) -> None:
        outcome: BaseException | None = None
        try:
            with opened(serving) as database:
                act(serving, database)
        except BaseException as error:
            outcome = error
        if servers.stopping:
            return  # caused by the servers' end
        outcomes.append(outcome)
        if outcome is not None or not stay:
            servers.stop()

    def started(servers: supervisor.Supervisor, serving: Settings) -> None:
        # Ctrl-C must not wait for the thread's request.
        threading.Thread(target=drive, args=(servers, serving), name="demo", daemon=True).start()

    supervisor.up(settings, say, started)
    console.show_cursor()  # an interrupted progress bar hides it
    if not outcomes and not stay:
        raise typer.Exit(INTERRUPTED)
    if outcomes and outcomes[0] is not None:
        raise outcomes[0]
