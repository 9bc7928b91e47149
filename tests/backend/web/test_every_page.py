"""Every page, for each role, with every state, under odd names."""

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
from backend.web import access
from tests.routes import OWN_ACCOUNT, asked_actions, blanked
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


# Buttons that people of a role need; an owner has a reviewer's too.
REVIEWERS_BUTTONS = {
    "/logout",
    "/account/tokens",
    "/reviews/{}/decide",
    "/reviews/{}/undo",
    "/reviews/{}/parts",
}
OWNERS_BUTTONS = {
    "/datasets",
    "/datasets/{}/rename",
    "/datasets/{}/delete",
    "/datasets/{}/runs",
    "/runs/{}/reviews",
    "/reviews/{}/clean",
    "/jobs/{}/cancel",
    "/jobs/{}/retry",
    "/cleansings/{}/accept",
    "/cleansings/{}/roll-back",
    "/cleansings/{}/measure",
}
BUTTONS = {
    "owner": REVIEWERS_BUTTONS | OWNERS_BUTTONS,
    "reviewer": REVIEWERS_BUTTONS,
    "viewer": {"/logout", "/account/tokens"},
}


@pytest.mark.slow
@pytest.mark.parametrize("role", BUTTONS)
def test_every_page_can_be_shown_in_every_state_and_offers_what_its_reader_may_do(
    app: FastAPI,
    world: World,
    sign_in: Callable[[User], TestClient],
    owner: User,
    reviewer: User,
    viewer: User,
    role: str,
) -> None:
    client = sign_in({"owner": owner, "reviewer": reviewer, "viewer": viewer}[role])
    seen: dict[str, set[int]] = {}
    buttons: set[str] = set()
    for path in pages(app):
        for address in filled(path, world):
            headers = POLL if path.endswith(("/progress", "/log")) else {}
            answer = client.get(address, headers=headers, follow_redirects=False)
            seen.setdefault(path, set()).add(answer.status_code)
            allowed = statuses(path, role)
            assert answer.status_code in allowed, (address, answer.status_code, answer.text[:2000])
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert_harmless(address, answer.text)
                buttons |= posts(answer.text)
    assert len(seen) > 20
    for path, found in seen.items():
        refused = path in OWNERS_ONLY and role != "owner"
        usual = 403 if refused else 303 if path in ("/", "/login") else 200
        assert usual in found, (path, found)
    assert buttons >= BUTTONS[role]
    asked = asked_actions(app)
    own = {blanked(path) for _, path in OWN_ACCOUNT}
    for address in buttons - own:
        assert asked["POST", address] <= access.ROLES[role].actions, address


def statuses(path: str, role: str) -> set[int]:
    """Return the statuses that a page may have."""
    allowed = {200}
    allowed |= {303} if path in LEADS_ON else set()
    allowed |= {403} if path in OWNERS_ONLY and role != "owner" else set()
    # A run without scores has none to download, and a data set's files may be gone.
    allowed |= {404} if path.endswith(("scores.csv", "scores.parquet")) else set()
    allowed |= {409} if path in AFTER_THE_IMPORT else set()
    # Most data sets of this world have no version.
    return allowed | ({404} if "{number}" in path else set())


def posts(text: str) -> set[str]:
    """Return the addresses that a page's buttons post to, with {} for numbers."""
    found = set()
    for form in re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL):
        name = re.search(r'<form[^>]* id="(\w+)"', form)
        submits = re.search(r'<button(?![^>]*(type="button"|form="))', form)
        if submits or (name and f'form="{name[1]}"' in text):
            action = re.search(r'action="([^"?]*)', form)
            assert action is not None
            found.add(blanked(action[1]))
    return found


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
