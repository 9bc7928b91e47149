"""Every page, for owner and reviewer, with every state, under odd names."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import product

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import User
from backend.core.storage import Storage
from tests.world import SCRIPT, World, a_world

# Where else than to a page of its own a page may lead.
LEADS_ON = {"/", "/reviews/{review_id}/clean", "/cleansings/{cleansing_id}/changed", "/login"}
OWNERS_ONLY = {"/datasets/{data_set_id}/runs/new"}
AFTER_THE_IMPORT = {"/datasets/{data_set_id}/runs/new"}
POLL = {"HX-Request": "true", "HX-Current-URL": "http://testserver/jobs/1"}


@pytest.fixture
def world(database: Database, storage: Storage, owner: User, reviewer: User) -> World:
    with database.transaction() as session:
        return a_world(session, storage, owner, reviewer)


def pages(app: FastAPI) -> list[str]:
    """The address of every GET route that is not the API's, with its placeholders."""
    own = [
        route.path_format or ""
        for route in iter_route_contexts(app.routes)
        if "GET" in (route.methods or ())
    ]
    return [path for path in own if not path.startswith("/api/")] + ["/api/docs"]


def filled(path: str, world: World) -> Iterator[str]:
    """The address with all combinations of numbers; new placeholders need rows in world.py."""
    if path.startswith("/images/"):
        for (data_set_id, content_hash), view in product(world.images, ("thumbnails", "full")):
            yield path.format(data_set_id=data_set_id, view=view, name=content_hash)
        return
    names = re.findall(r"{(\w+)}", path)
    for numbers in product(*(world.ids[name] for name in names)):
        yield path.format(**dict(zip(names, numbers, strict=True)))


class Reader(HTMLParser):
    """Collect everything that a browser would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.suspicious: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "script":
            self.scripts.append(found)
        for name, value in attributes:
            elsewhere = name in ("src", "href", "action") and re.match(
                r"\s*(javascript|data|https?|//)", value or "", re.IGNORECASE
            )
            if name.startswith("on") or elsewhere:
                self.suspicious.append((name, value or ""))


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def assert_harmless(path: str, text: str) -> None:
    """No input has become markup, and nothing missing is shown as such."""
    assert SCRIPT not in text, path
    found = read(text)
    assert found.suspicious == [], path
    for script in found.scripts:
        assert (script.get("src") or "").startswith("/static/") or script.get(
            "type"
        ) == "application/json", (path, script)
    assert not re.search(r">\s*(None|nan|undefined)\s*<", text), path


@pytest.fixture(params=["owner", "reviewer"])
def anybody(
    request: pytest.FixtureRequest,
    sign_in: Callable[[User], TestClient],
    owner: User,
    reviewer: User,
) -> tuple[str, TestClient]:
    return request.param, sign_in(owner if request.param == "owner" else reviewer)


@pytest.mark.slow
def test_every_page_can_be_shown_in_every_state(
    app: FastAPI, world: World, anybody: tuple[str, TestClient]
) -> None:
    role, client = anybody
    seen: dict[str, set[int]] = {}
    for path in pages(app):
        for address in filled(path, world):
            headers = POLL if path.endswith(("/progress", "/log")) else {}
            answer = client.get(address, headers=headers, follow_redirects=False)
            seen.setdefault(path, set()).add(answer.status_code)
            allowed = (
                {200}
                | ({303} if path in LEADS_ON else set())
                | ({403} if path in OWNERS_ONLY and role == "reviewer" else set())
            )
            # A run without scores has none to download, and a data set's files may be gone.
            allowed |= {404} if path.endswith(("scores.csv", "scores.parquet")) else set()
            allowed |= {409} if path in AFTER_THE_IMPORT else set()
            # Most data sets of this world have no version.
            allowed |= {404} if "{number}" in path else set()
            assert answer.status_code in allowed, (address, answer.status_code, answer.text[:2000])
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert_harmless(address, answer.text)
    assert len(seen) > 20
    for path, statuses in seen.items():
        usual = (
            {403}
            if path in OWNERS_ONLY and role == "reviewer"
            else {303}
            if path in ("/", "/login")
            else {200}
        )
        assert usual & statuses, (path, statuses)


@pytest.mark.slow
def test_every_answer_of_the_api_can_be_given_in_every_state(
    app: FastAPI, world: World, client: TestClient
) -> None:
    for route in iter_route_contexts(app.routes):
        path = route.path_format or ""
        if not path.startswith("/api/v1") or "GET" not in (route.methods or ()):
            continue
        for address in filled(path, world):
            answer = client.get(address)
            # Not there yet, or requested without a needed parameter.
            refused = (
                answer.status_code in (404, 409, 422)
                and answer.headers["content-type"] == "application/problem+json"
            )
            assert answer.status_code == 200 or refused, (
                address,
                answer.status_code,
                answer.text[:500],
            )


@pytest.mark.slow
def test_what_a_reviewer_may_not_do_is_not_offered(
    app: FastAPI, world: World, reviewer_client: TestClient, client: TestClient
) -> None:
    """A button that only leads to a refusal must not be there; the owner has it."""
    offered: dict[str, set[str]] = {}
    for who, browser in (("owner", client), ("reviewer", reviewer_client)):
        offered[who] = set()
        for path in pages(app):
            for address in filled(path, world):
                text = browser.get(address, headers=POLL if path.endswith("/progress") else {}).text
                forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"?]*)', text)
                offered[who] |= {re.sub(r"\d+", "1", action) for action in forms}
    owners = {
        "/datasets",
        "/datasets/1/rename",
        "/datasets/1/delete",
        "/runs/1/reviews",
        "/jobs/1/cancel",
        "/jobs/1/retry",
    }
    owners |= {
        "/cleansings/1/accept",
        "/cleansings/1/roll-back",
        "/cleansings/1/measure",
        "/reviews/1/clean",
        "/datasets/1/runs",
    }
    assert owners <= offered["owner"]
    assert not owners & offered["reviewer"]
