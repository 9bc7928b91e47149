"""`winnow`: start it, look after its people, import, export. Every mistake of the caller's gets a sentence and a status that is not 0."""

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import OperationalError
from typer.core import TyperGroup

from backend import demo as journey
from backend import migrations, processes, queue
from backend.accounts import service as accounts
from backend.client import Json
from backend.db import Database
from backend.errors import AppError
from backend.settings import Settings

console = Console(stderr=True)
INTERRUPTED = 130


class Sentences(TyperGroup):
    """Turns what people can mend into a sentence on standard error; anything else stays a traceback, to be reported."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AppError as error:
            sentence = error.message
        except ValidationError as error:
            sentence = "\n".join(f"WINNOW_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        except OperationalError as error:
            sentence = f"The database cannot be used: {error.orig}"
        console.print(sentence, style="bold red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1)


app = typer.Typer(cls=Sentences, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
user_app = typer.Typer(no_args_is_help=True, help="The people who may sign in.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for programs that use the API.")
jobs_app = typer.Typer(no_args_is_help=True, help="Queued and running work.")
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")
app.add_typer(jobs_app, name="jobs")

Host = Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set (WINNOW_HOST).")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 8000 unless set (WINNOW_PORT); 0 is any free one.")]


def make_settings(**given: Any) -> Settings:
    """The environment's settings, with what the command line gave."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, brought up to date, and the broker to send jobs to."""
    migrations.prepare(settings)
    queue.configure(settings.broker)
    database = Database(settings.database)
    try:
        yield database
    finally:
        database.close()


def say(sentence: str) -> None:
    """For the person at the terminal; standard output is for what programs read."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def up(host: Host = None, port: Port = None) -> None:
    """Start broker, worker and web together; Ctrl-C stops all three."""

    def started(_: processes.Supervisor, serving: Settings) -> None:
        say(f"Winnow listens at {processes.address(serving)} (logs: {serving.home / 'logs'}). A login link: winnow login-link")

    processes.up(make_settings(host=host, port=port), say, started)


@app.command()
def serve(
    host: Host = None,
    port: Port = None,
    door: Annotated[int | None, typer.Option("--socket", hidden=True, help="A listening socket's number, from the supervisor.")] = None,
) -> None:
    """Start the web alone, for machines where something else starts the workers and the broker."""
    from backend.main import create_app  # the other commands start faster without it

    settings = make_settings(host=host, port=port)
    migrations.prepare(settings)
    made = uvicorn.Config(create_app(settings), log_level="info", timeout_graceful_shutdown=5, proxy_headers=True)
    if door is not None:
        uvicorn.Server(made).run(sockets=[socket.socket(fileno=door)])
        return
    with processes.listen(settings.host, settings.port) as listening:
        say(f"Winnow's web listens at {processes.address(settings)}.")
        uvicorn.Server(made).run(sockets=[listening])


@app.command()
def worker() -> None:
    """Start one worker alone; start several for several jobs at a time."""
    migrations.prepare(make_settings())
    # The web's code never imports the worker's: it becomes it.
    os.execv(sys.executable, [sys.executable, "-m", "worker.app"])  # noqa: S606


@app.command()
def migrate() -> None:
    """Bring the database to this program's schema."""
    settings = make_settings()
    migrations.upgrade(settings)
    say(f"The database is at revision {migrations.head()}.")


# ── the demo ────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def demo(
    host: Host = None,
    port: Port = None,
    auto: Annotated[bool, typer.Option("--auto", help="The whole loop unattended, in a scratch folder; the last line is JSON.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="With --auto: keep the scratch folder.")] = False,
    data: Annotated[Path | None, typer.Option(exists=True, help="With --auto: a folder or zip in place of the sample.")] = None,
    idx: Annotated[bool, typer.Option("--idx", help="With --data: the folder holds MNIST's IDX files.")] = False,
    name: Annotated[str | None, typer.Option(help="With --data: the data set's name.")] = None,
    seed: Annotated[int, typer.Option(help="With --auto: of splits, training and planted errors.")] = 0,
    flip: Annotated[float, typer.Option(min=0, max=1, help="With --auto: share of training labels to flip, as planted errors.")] = 0.0,
    look: Annotated[float, typer.Option(min=0, max=1, help="With --auto: share of the queue that is looked at.")] = 0.2,
    remove_top: Annotated[int | None, typer.Option(min=1, help="With --auto: remove the first so many suggestions, unseen.")] = None,
    network: Annotated[str | None, typer.Option(help="With --auto: as in the API.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --auto.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="With --auto.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="With --auto.")] = None,
    method: Annotated[str | None, typer.Option(help="With --auto: the score that says what hurts accuracy.")] = None,
    span: Annotated[str | None, typer.Option(help="With --auto: last_epoch or all_epochs.")] = None,
    fresh_seeds: Annotated[int, typer.Option(min=3, help="With --auto: fresh starts that the verdict measures.")] = 3,
) -> None:
    """Start Winnow with the sample data set, trained and scored, and print a login link."""
    if not auto:
        _drive(make_settings(host=host, port=port), lambda settings, database: journey.show_link(settings, database), stay=True)
        return
    run = {"network": network, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    source, archive = _source(data, idx)
    plan = journey.Plan(
        source=source,
        archive=archive,
        name=name or (data.name if data else journey.SAMPLE_NAME),
        seed=seed,
        run=_given(run),
        review=_given({"method": method, "span": span}),
        flip=flip,
        look=look,
        remove_top=remove_top,
        fresh_seeds=fresh_seeds,
    )
    found: list[Json] = []
    with _scratch(keep) as home:
        folders = str(data.resolve().parent) if data else None
        settings = make_settings(home=home, host=host, port=port or 0, import_folders=folders)
        _drive(settings, lambda serving, database: found.append(journey.whole_loop(serving, database, plan)), stay=False)
    print(json.dumps(found[0]), flush=True)


def _drive(settings: Settings, act: Callable[[Settings, Database], None], *, stay: bool) -> None:
    """Start everything and, beside it, `act`; then stay until asked to end, or end at once. Raises what `act` raised."""
    failures: list[BaseException] = []
    finished = threading.Event()

    def drive(supervisor: processes.Supervisor, serving: Settings) -> None:
        try:
            with opened(serving) as database:
                act(serving, database)
        except BaseException as error:
            failures.append(error)
        finished.set()
        if failures or not stay:
            supervisor.stop()

    def started(supervisor: processes.Supervisor, serving: Settings) -> None:
        # A daemon: after Ctrl-C nobody waits for the request that it is in.
        threading.Thread(target=drive, args=(supervisor, serving), name="demo", daemon=True).start()

    processes.up(settings, say, started)
    if not finished.is_set():
        if not stay:
            raise typer.Exit(INTERRUPTED)
    elif failures:
        raise failures[0]


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    """The folder of an unattended loop: WINNOW_HOME where it is set, else a temporary one that is deleted unless asked to be kept."""
    named = os.environ.get("WINNOW_HOME")
    if named or keep:
        home = Path(named) if named else Path(tempfile.mkdtemp(prefix="winnow-"))
        yield home
        say(f"Everything is kept in {home}")
        return
    with tempfile.TemporaryDirectory(prefix="winnow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _source(data: Path | None, idx: bool) -> tuple[Json, Path | None]:
    if data is None:
        return {"kind": "sample"}, None
    if data.is_file():
        return {}, data.resolve()
    return {"kind": "idx" if idx else "folder", "path": str(data.resolve())}, None


def _given(values: dict[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command("login-link")
def login_link(user: Annotated[str | None, typer.Argument(help="Whom it signs in; the first owner unless named.")] = None) -> None:
    """Print a link that signs one person in, once, within a day."""
    settings = make_settings()
    with opened(settings) as database:
        print(journey.login_link(_serving(settings), database, user))


def _serving(settings: Settings) -> Settings:
    """The settings with the address where this folder is served right now, if it is."""
    where = processes.running_address(settings)
    return settings.model_copy(update={"public_url": where}) if where else settings


@user_app.command("add")
def add_user(name: str, role: Annotated[str, typer.Option(help="owner (everything) or reviewer (look and decide).")] = "reviewer") -> None:
    """Add a person, and print a login link."""
    settings = make_settings()
    with opened(settings) as database:
        with database.transaction() as session:
            accounts.create_user(session, name, role)
        print(journey.login_link(_serving(settings), database, name.strip()))


@user_app.command("list")
def list_users() -> None:
    """List everybody with their roles."""
    with opened(make_settings()) as database, database.transaction(write=False) as session:
        _table(("name", "role"), [(user.name, user.role) for user in accounts.list_users(session)])


@user_app.command("remove")
def remove_user(name: str) -> None:
    """Remove a person; what they decided stays."""
    with opened(make_settings()) as database, database.transaction() as session:
        accounts.remove_user(session, accounts.find_user(session, name))
    say(f"{name} can no longer sign in.")


@token_app.command("create")
def create_token(user: str, name: Annotated[str, typer.Option(help="What it is for.")] = "command line") -> None:
    """Print a new API token; it is shown this once."""
    with opened(make_settings()) as database, database.transaction() as session:
        print(accounts.create_token(session, accounts.find_user(session, user), name))


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table for people; for programs, tab-separated lines."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    app()
