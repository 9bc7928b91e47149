"""`winnow demo`: everything started, and beside it the journey over the API."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.cli import journey
from backend.cli import supervisor as processes
from backend.cli.client import Json
from backend.cli.console import console, say
from backend.cli.opening import make_settings, opened
from backend.cli.serving import Host, Port
from backend.core.db import Database
from backend.core.settings import Settings

INTERRUPTED = 130


def demo(
    host: Host = None,
    port: Port = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto", help="The whole loop unattended, in a scratch folder; the last line is JSON."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --auto: keep the scratch folder.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, help="With --auto: a folder or zip in place of the sample."),
    ] = None,
    idx: Annotated[
        bool, typer.Option("--idx", help="With --data: the folder holds MNIST's IDX files.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="With --data: the data set's name.")] = None,
    side: Annotated[
        int | None,
        typer.Option(min=8, max=224, help="With --data: side of the images that the model sees."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="With --auto: of splits, training and planted errors.")
    ] = 0,
    flip: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="With --auto: share of training labels to flip, as planted errors."
        ),
    ] = 0.0,
    look: Annotated[
        float, typer.Option(min=0, max=1, help="With --auto: share of the queue that is looked at.")
    ] = 0.2,
    remove_top: Annotated[
        int | None,
        typer.Option(min=1, help="With --auto: remove the first so many suggestions, unseen."),
    ] = None,
    network: Annotated[str | None, typer.Option(help="With --auto: as in the API.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --auto.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="With --auto.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="With --auto.")] = None,
    method: Annotated[
        str | None, typer.Option(help="With --auto: the score that says what hurts accuracy.")
    ] = None,
    span: Annotated[str | None, typer.Option(help="With --auto: last_epoch or all_epochs.")] = None,
    fresh_seeds: Annotated[
        int, typer.Option(min=3, help="With --auto: fresh starts that the verdict measures.")
    ] = 5,
) -> None:
    """Start Winnow with the sample data set, trained and scored, and print a login link."""
    if not auto:
        _drive(
            make_settings(host=host, port=port),
            lambda settings, database: journey.show_link(settings, database),
            stay=True,
        )
        return
    run = {
        "network": network,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
    }
    source, archive = _source(data, idx)
    plan = journey.Plan(
        source=source,
        archive=archive,
        name=name or (data.name if data else journey.SAMPLE_NAME),
        seed=seed,
        side=side,
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
        _drive(
            settings,
            lambda serving, database: found.append(journey.whole_loop(serving, database, plan)),
            stay=False,
        )
    print(json.dumps(found[0]), flush=True)


def _drive(settings: Settings, act: Callable[[Settings, Database], None], *, stay: bool) -> None:
    """Start everything and, beside it, `act`; then stay until asked to end, or end at once. Raises what `act` raised."""
    outcomes: list[BaseException | None] = []

    def drive(supervisor: processes.Supervisor, serving: Settings) -> None:
        outcome: BaseException | None = None
        try:
            with opened(serving) as database:
                act(serving, database)
        except BaseException as error:
            outcome = error
        if supervisor.stopping:
            return  # whatever went wrong, the end of web and worker may be why
        outcomes.append(outcome)
        if outcome is not None or not stay:
            supervisor.stop()

    def started(supervisor: processes.Supervisor, serving: Settings) -> None:
        # A daemon: after Ctrl-C nobody waits for the request that it is in.
        threading.Thread(target=drive, args=(supervisor, serving), name="demo", daemon=True).start()

    processes.up(settings, say, started)
    console.show_cursor()  # a progress bar that was cut off has hidden it
    if not outcomes and not stay:
        raise typer.Exit(INTERRUPTED)
    if outcomes and outcomes[0] is not None:
        raise outcomes[0]


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
