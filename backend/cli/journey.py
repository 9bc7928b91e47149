"""The demo's journey over the REST API: import, train, score."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend.accounts import service as accounts
from backend.cli.client import Client, Json, Refused
from backend.cli.console import bar, say
from backend.cli.supervisor import address
from backend.core.db import Database
from backend.core.invocation import winnow
from backend.core.settings import Settings

TOKEN_NAME = "winnow demo"  # noqa: S105 - the name of a token, not a secret
STEPS = ("data_set", "run", "review")
SAMPLE_NAME = "Handwritten digits (sample)"


class Journey:
    """Steps of a few requests each; `ids` lets a second start continue."""

    def __init__(
        self,
        client: Client,
        ids: dict[str, int],
        keep: Callable[[dict[str, int]], None] = lambda _: None,
    ) -> None:
        self.client = client
        self.ids = ids
        self.keep = keep
        self.seconds: dict[str, float] = {}

    def prepare_sample(self) -> None:
        sample = {"name": SAMPLE_NAME, "seed": 0, "source": {"kind": "sample"}}
        self.step("data_set", lambda: self.client.post("/data-sets", sample), "import")
        self.train({"seed": 0})
        self.score({})

    def train(self, options: Json) -> int:
        path = f"/data-sets/{self.ids['data_set']}/runs"
        return self.step("run", lambda: self.client.post(path, options), "train")

    def score(self, options: Json) -> int:
        path = f"/runs/{self.ids['run']}/reviews"
        return self.step("review", lambda: self.client.post(path, options), "score")

    def step(self, what: str, make: Callable[[], Json], seconds: str) -> int:
        """Make the object unless an earlier start did, and wait for its job.

        Args:
            what: the object's key in `ids`.
            make: the request that makes it; answers with the object and its job.
            seconds: the step's key in `seconds`, and its title.

        Returns:
            The object's id.

        Raises:
            JobEnded: the job failed or was cancelled.
        """
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


def show_link(settings: Settings, database: Database) -> None:
    """Prepare the sample once, and print a login link."""
    memory = settings.home / "demo.json"
    ids = json.loads(memory.read_text()) if memory.exists() else {}
    with signed_in(settings, database) as client:
        Journey(
            client, still_there(client, ids), lambda known: _write(memory, known)
        ).prepare_sample()
    print(login_link(settings, database), flush=True)
    say(
        f"Open the link and press “Sign in” (it works once; another: {winnow()} login-link). "
        "Ctrl-C stops everything; all state stays."
    )


def still_there(client: Client, ids: dict[str, int]) -> dict[str, int]:
    """Select the steps whose objects exist; retry those that failed or were cancelled."""
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


def login_link(settings: Settings, database: Database, name: str | None = None) -> str:
    """Issue a single-use login link; without a name, for the first owner."""
    with database.transaction() as session:
        user = accounts.find_user(session, name) if name else accounts.first_owner(session)
        return f"{address(settings)}/?token={accounts.issue_login_link(session, user)}"


@contextmanager
def signed_in(settings: Settings, database: Database) -> Iterator[Client]:
    """Open a client of the first owner; revokes its token at the end."""
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


def _write(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)
