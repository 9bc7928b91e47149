"""`winnow demo`: the journey over the REST API of the Winnow that was just started, up to the suggestions or, with --auto, to the verdict."""

import json
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from backend.accounts import service as accounts
from backend.cli.client import Client, Json, Refused
from backend.cli.console import bar, say
from backend.cli.supervisor import address
from backend.core.db import Database
from backend.core.invocation import winnow
from backend.core.models import DataSet, Image
from backend.core.settings import Settings

TOKEN_NAME = "winnow demo"  # noqa: S105 - the name of a token, not a secret
STEPS = ("data_set", "run", "review")
SAMPLE_NAME = "Handwritten digits (sample)"


@dataclass(frozen=True)
class Plan:
    """What to import, train and score, and how the planted truth plays the reviewer. `None` leaves the choice to Winnow."""

    source: Json = field(default_factory=lambda: {"kind": "sample"})
    archive: Path | None = None  # a zip to upload, in place of the source
    name: str = SAMPLE_NAME
    seed: int = 0
    side: int | None = None  # of the images that the model sees
    run: Json = field(default_factory=dict)  # network, epochs, learning_rate, …
    review: Json = field(default_factory=dict)  # method, span
    flip: float = 0.0  # share of training labels to flip, beside what the source itself planted
    look: float = 0.2  # share of the default queue that the reviewer looks at
    remove_top: int | None = (
        None  # remove that many from the top unseen, in place of what was planted
    )
    fresh_seeds: int = 5


class Journey:
    """The steps, each of them a few requests. Where each got is kept in `ids`, so that a second start goes on from there."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        ids: dict[str, int],
        keep: Callable[[dict[str, int]], None] = lambda _: None,
    ) -> None:
        self.client = client
        self.plan = plan
        self.ids = ids
        self.keep = keep
        self.seconds: dict[str, float] = {}

    def prepare(self, before_training: Callable[[int], object] = lambda _: None) -> None:
        """Import, train and score, leaving out what an earlier start has done."""
        self._step("data_set", self._import, "import")
        before_training(self.ids["data_set"])
        run = {"seed": self.plan.seed, **self.plan.run}
        self._step(
            "run", lambda: self.client.post(f"/data-sets/{self.ids['data_set']}/runs", run), "train"
        )
        self._step(
            "review",
            lambda: self.client.post(f"/runs/{self.ids['run']}/reviews", self.plan.review),
            "score",
        )

    def decide(self) -> None:
        """Play the reviewer: look at the first images of the default queue, remove what was planted (or the top), keep the others."""
        review = f"/reviews/{self.ids['review']}"
        total = self.client.get(review)["suggestion_count"]
        top = self.plan.remove_top
        planted = (
            set(self.client.get(f"/data-sets/{self.ids['data_set']}/planted")["image_ids"])
            if top is None
            else set()
        )
        looked_at = top if top is not None else math.ceil(self.plan.look * total)
        with bar("Reviewing") as show:
            for first in _first(self.client, review, looked_at):
                remove = [
                    card["image_id"]
                    for card in first
                    if top is not None or card["image_id"] in planted
                ]
                self._decide(review, "remove", remove)
                self._decide(
                    review,
                    "keep",
                    [card["image_id"] for card in first if card["image_id"] not in remove],
                )
                show(first[-1]["rank"], looked_at, "")

    def clean(self) -> Json:
        """Clean and retrain; the verdict."""
        asked = {"fresh_seeds": self.plan.fresh_seeds}
        made = self._step(
            "cleansing",
            lambda: self.client.post(f"/reviews/{self.ids['review']}/cleansings", asked),
            "retrain",
        )
        verdict: Json = self.client.get(f"/cleansings/{made}")["verdict"]
        return verdict

    def _import(self) -> Json:
        about = {"name": self.plan.name, "seed": self.plan.seed} | (
            {"side": self.plan.side} if self.plan.side else {}
        )
        if self.plan.archive is not None:
            return self.client.upload("/data-sets/upload", self.plan.archive, about)
        return self.client.post("/data-sets", {**about, "source": self.plan.source})

    def _step(self, what: str, make: Callable[[], Json], seconds: str) -> int:
        """Make the thing unless an earlier start did, and wait for its job."""
        if what not in self.ids:
            made = make()
            self.ids |= {what: made["id"], f"{what}_job": made["job"]["id"]}
            self.keep(self.ids)
        with bar(seconds.capitalize()) as show:
            began = time.monotonic()
            self.client.follow(
                self.ids[f"{what}_job"],
                lambda job: show(
                    job["progress_done"], job["progress_total"], job["progress_message"]
                ),
            )
            self.seconds[seconds] = round(time.monotonic() - began, 2)
        return self.ids[what]

    def _decide(self, review: str, action: str, image_ids: list[int]) -> None:
        if image_ids:
            self.client.post(
                f"{review}/decisions/bulk",
                {"client_key": str(uuid.uuid4()), "action": action, "image_ids": image_ids},
            )


def show_link(settings: Settings, database: Database) -> None:
    """The demo: import, train and score the sample once; print one line, a login link, on standard output."""
    memory = settings.home / "demo.json"
    ids = json.loads(memory.read_text()) if memory.exists() else {}
    with _client(settings, database) as client:
        Journey(
            client, Plan(), still_there(client, ids), lambda known: _write(memory, known)
        ).prepare()
    print(login_link(settings, database), flush=True)
    say(
        f"Open the link (it signs in once; another: {winnow()} login-link). Ctrl-C stops everything; all state stays."
    )


def still_there(client: Client, ids: dict[str, int]) -> dict[str, int]:
    """What an earlier start made and nobody has deleted since; of that, what failed or was cancelled is tried again."""
    kept: dict[str, int] = {}
    for step in STEPS:
        if step not in ids:
            break
        try:
            job = client.get(f"/jobs/{ids[f'{step}_job']}")
        except Refused as refusal:
            if refusal.status != 404:
                raise
            break
        if job["state"] in ("failed", "cancelled"):
            client.post(f"/jobs/{job['id']}/retry")
        kept |= {step: ids[step], f"{step}_job": job["id"]}
    return kept


def whole_loop(settings: Settings, database: Database, plan: Plan) -> Json:
    """The whole loop, unattended. Returns what `--auto` prints as its last line."""
    began = time.monotonic()
    with _client(settings, database) as client:
        journey = Journey(client, plan, {})
        journey.prepare(lambda data_set_id: plant(database, data_set_id, plan.flip, plan.seed))
        journey.decide()
        verdict = journey.clean()
    seconds = {name: journey.seconds[name] for name in ("train", "score", "retrain")} | {
        "total": round(time.monotonic() - began, 2)
    }
    return summary(plan.name, verdict, seconds)


def summary(name: str, verdict: Json, seconds: dict[str, float]) -> Json:
    """The verdict's figures that `--auto` promises, and no others."""
    figures = ("before", "cleaned", "random", "difference", "ci95")
    questions = {
        question: {
            measure: {figure: verdict[question][measure][figure] for figure in figures}
            for measure in ("accuracy", "loss")
        }
        for question in ("same_seed", "fresh_seeds")
    }
    return (
        {"data_set": name}
        | {count: verdict[count] for count in ("planted", "removed", "found")}
        | questions
        | {"seconds": seconds}
    )


def plant(database: Database, data_set_id: int, share: float, seed: int) -> int:
    """Flip that share of the training labels, drawn by the seed, and record each true label. Only for a data set that nothing used yet."""
    with database.transaction() as session:
        data_set = session.get_one(DataSet, data_set_id)
        images = session.execute(
            select(Image.id, Image.label)
            .where(Image.data_set_id == data_set_id, Image.split == "train")
            .order_by(Image.id)
        ).all()
        draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
        chosen = draw.sample(images, round(share * len(images)))
        for image_id, label in chosen:
            wrong = draw.choice(
                [other for other in range(len(data_set.class_names)) if other != label]
            )
            session.execute(
                update(Image).where(Image.id == image_id).values(label=wrong, true_label=label)
            )
        data_set.planted_count += len(chosen)
    return len(chosen)


def login_link(settings: Settings, database: Database, name: str | None = None) -> str:
    """A link that signs that person in, once; the first owner without a name."""
    with database.transaction() as session:
        user = accounts.find_user(session, name) if name else accounts.first_owner(session)
        return f"{address(settings)}/?token={accounts.issue_login_link(session, user)}"


@contextmanager
def _client(settings: Settings, database: Database) -> Iterator[Client]:
    """A client with a token that ends with it."""
    with database.transaction() as session:
        owner = accounts.first_owner(session)
        token = accounts.create_token(session, owner, TOKEN_NAME)
    host = settings.model_copy(update={"public_url": ""})
    try:
        with Client(address(host), token) as client:
            yield client
    finally:
        with database.transaction() as session:
            for known in accounts.list_tokens(session, owner):
                if known.name == TOKEN_NAME:
                    accounts.revoke_token(session, owner, known.id)


def _first(client: Client, review: str, count: int) -> Iterator[list[Json]]:
    """The first `count` suggestions of the default queue, by pages of 100."""
    after = 0
    while after < count:
        items = client.get(
            f"{review}/suggestions", order="queue", after=after, limit=min(100, count - after)
        )["items"]
        if not items:
            return
        yield items
        after = items[-1]["rank"]


def _write(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)
