"""The whole loop, unattended: import, train, score, review, clean, retrain, verdict.

    python -m benchmarks.loop [--data FOLDER_OR_ZIP] [--flip 0.08] [--look 0.2] …

Runs in a scratch folder, or in WINNOW_HOME. The planted truth plays the reviewer. The last line on
standard output is the verdict as JSON.
"""

import json
import math
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.cli import Sentences
from backend.cli.client import Client, Json
from backend.cli.console import bar, say
from backend.cli.demo import serve_while
from backend.cli.journey import SAMPLE_NAME, Journey, signed_in
from backend.cli.opening import make_settings
from backend.cli.serving import Host, Port
from backend.core.db import Database
from backend.core.settings import Settings
from benchmarks._planting import plant

PAGE = 100
FIGURES = ("before", "cleaned", "random", "difference", "ci95")

app = typer.Typer(cls=Sentences, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Plan:
    """Choices for the loop; empty options leave them to Winnow."""

    source: Json = field(default_factory=lambda: {"kind": "sample"})
    archive: Path | None = None  # a zip to upload instead of the source
    name: str = SAMPLE_NAME
    seed: int = 0
    side: int | None = None  # of the images that the model sees
    run: Json = field(default_factory=dict)  # network, epochs, learning_rate, …
    review: Json = field(default_factory=dict)  # method, span
    flip: float = 0.0  # share of training labels to flip, besides the source's
    look: float = 0.2  # share of the queue to review
    remove_top: int | None = None  # number of suggestions to remove unseen
    fresh_seeds: int = 5


@app.callback(invoke_without_command=True)
def loop(
    host: Host = None,
    port: Port = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch folder.")] = False,
    data: Annotated[
        Path | None, typer.Option(exists=True, help="A folder or zip in place of the sample.")
    ] = None,
    idx: Annotated[
        bool, typer.Option("--idx", help="With --data: the folder holds MNIST's IDX files.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="With --data: the data set's name.")] = None,
    side: Annotated[
        int | None,
        typer.Option(min=8, max=224, help="With --data: side of the images that the model sees."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of splits, training and planted errors.")] = 0,
    flip: Annotated[
        float, typer.Option(min=0, max=1, help="Share of training labels to flip, as errors.")
    ] = 0.0,
    look: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the queue that is looked at.")
    ] = 0.2,
    remove_top: Annotated[
        int | None, typer.Option(min=1, help="Remove the first so many suggestions, unseen.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="As in the API.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    method: Annotated[
        str | None, typer.Option(help="The score that says what hurts accuracy.")
    ] = None,
    span: Annotated[str | None, typer.Option(help="last_epoch or all_epochs.")] = None,
    fresh_seeds: Annotated[
        int, typer.Option(min=3, help="Fresh starts that the verdict measures.")
    ] = 5,
) -> None:
    """Run the whole loop unattended; the last line is the verdict as JSON."""
    run = {
        "network": network,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
    }
    source, archive = choose_source(data, idx)
    plan = Plan(
        source=source,
        archive=archive,
        name=name or (data.name if data else SAMPLE_NAME),
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
        serve_while(
            settings, lambda serving, database: found.append(run_loop(serving, database, plan))
        )
    print(json.dumps(found[0]), flush=True)


def run_loop(settings: Settings, database: Database, plan: Plan) -> Json:
    """Run every step against a served Winnow; returns the summary."""
    began = time.monotonic()
    with signed_in(settings, database) as client:
        journey = Journey(client, {})
        data_set = journey.step("data_set", lambda: begin_import(client, plan), "import")
        plant(database, data_set, plan.flip, plan.seed)
        journey.train({"seed": plan.seed, **plan.run})
        review = journey.score(plan.review)
        decide(client, plan, data_set, review)
        path, asked = f"/reviews/{review}/cleansings", {"fresh_seeds": plan.fresh_seeds}
        cleansing = journey.step("cleansing", lambda: client.post(path, asked), "retrain")
        verdict = client.get(f"/cleansings/{cleansing}")["verdict"]
    seconds = {name: journey.seconds[name] for name in ("train", "score", "retrain")}
    return summarize(plan.name, verdict, seconds | {"total": round(time.monotonic() - began, 2)})


def begin_import(client: Client, plan: Plan) -> Json:
    about = {"name": plan.name, "seed": plan.seed} | ({"side": plan.side} if plan.side else {})
    if plan.archive is not None:
        return client.upload("/data-sets/upload", plan.archive, about)
    return client.post("/data-sets", {**about, "source": plan.source})


def decide(client: Client, plan: Plan, data_set_id: int, review_id: int) -> None:
    """Play the reviewer: remove planted errors among the first, keep the rest."""
    review = f"/reviews/{review_id}"
    top = plan.remove_top
    planted: set[int] = set()
    if top is None:
        planted = set(client.get(f"/data-sets/{data_set_id}/planted")["image_ids"])
    total = client.get(review)["suggestion_count"]
    looked_at = top if top is not None else math.ceil(plan.look * total)
    with bar("Reviewing") as show:
        for cards in _first(client, review, looked_at):
            images = [card["image_id"] for card in cards]
            remove = [image for image in images if top is not None or image in planted]
            _decide(client, review, "remove", remove)
            _decide(client, review, "keep", [image for image in images if image not in remove])
            show(cards[-1]["rank"], looked_at, "")


def summarize(name: str, verdict: Json, seconds: dict[str, float]) -> Json:
    questions = {
        question: {
            measure: {figure: verdict[question][measure][figure] for figure in FIGURES}
            for measure in ("accuracy", "loss")
        }
        for question in ("same_seed", "fresh_seeds")
    }
    counts = {count: verdict[count] for count in ("planted", "removed", "found")}
    return {"data_set": name} | counts | questions | {"seconds": seconds}


def choose_source(data: Path | None, idx: bool) -> tuple[Json, Path | None]:
    """Return the source to import and the archive to upload; one is empty."""
    if data is None:
        return {"kind": "sample"}, None
    if data.is_file():
        return {}, data.resolve()
    return {"kind": "idx" if idx else "folder", "path": str(data.resolve())}, None


def _first(client: Client, review: str, count: int) -> Iterator[list[Json]]:
    after = 0
    while after < count:
        limit = min(PAGE, count - after)
        answer = client.get(f"{review}/suggestions", order="queue", after=after, limit=limit)
        if not answer["items"]:
            return
        yield answer["items"]
        after = answer["items"][-1]["rank"]


def _decide(client: Client, review: str, action: str, image_ids: list[int]) -> None:
    if image_ids:
        client.post(
            f"{review}/decisions/bulk",
            {"client_key": str(uuid.uuid4()), "action": action, "image_ids": image_ids},
        )


def _given(values: dict[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    """Open WINNOW_HOME, or a temporary folder, deleted unless `keep`."""
    named = os.environ.get("WINNOW_HOME")
    if named or keep:
        home = Path(named) if named else Path(tempfile.mkdtemp(prefix="winnow-"))
        yield home
        say(f"Everything is kept in {home}")
        return
    with tempfile.TemporaryDirectory(prefix="winnow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


if __name__ == "__main__":
    app()
