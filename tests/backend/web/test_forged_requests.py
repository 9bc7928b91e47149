"""Requests that a page of another origin makes a signed-in browser send: refused on every route."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from backend.accounts import service as accounts
from backend.accounts.dependencies import COOKIE, PAGE_OF
from backend.core.db import Database
from backend.core.models import User
from backend.core.storage import Storage
from tests.conftest import OWN_PAGE
from tests.reviewing import a_ready_review
from tests.routes import UNSAFE, addresses

PUBLIC_URL = "https://winnow.example.org"
# Of a browser at http://testserver.
FOREIGN = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "another subdomain": {"Sec-Fetch-Site": "same-site", "Origin": "http://other.testserver"},
    "a page without an origin": {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    "a claim of ours": {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    "an unknown word": {"Sec-Fetch-Site": "our-friends", "Origin": "http://testserver"},
    "an empty word": {"Sec-Fetch-Site": "", "Origin": "http://testserver"},
    # Sent over plain HTTP from other machines, and by old browsers everywhere.
    "a foreign origin": {"Origin": "https://evil.example"},
    "another port": {"Origin": "http://testserver:8080"},
    "another scheme": {"Origin": "https://testserver"},
    "a longer name": {"Origin": "http://testserver.evil.example"},
    "no origin": {"Origin": "null"},
    "an empty origin": {"Origin": ""},
    "no address in the settings": {"Origin": "://"},
    "only a referrer": {"Referer": "http://testserver/account"},
    "nothing": {},
}
OURS = {
    "a form or script": {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"},
    "a reload": {"Sec-Fetch-Site": "none"},
    "plain HTTP": {"Origin": "http://testserver"},
}
BODIES: dict[str, dict[str, Any]] = {
    "form": {"data": {"name": "x", "kind": "sample", "action": "remove", "image_id": "1"}},
    "text as a form can send it": {
        "content": b'{"name": "x"}',
        "headers": {"Content-Type": "text/plain"},
    },
    "JSON": {"json": {"name": "x", "source": {"kind": "sample"}}},
    "upload": {"files": {"file": ("a.zip", b"PK\x03\x04")}, "data": {"kind": "upload"}},
}


@pytest.fixture
def browser(app: FastAPI, client: TestClient) -> TestClient:
    """The owner's browser, without headers about a request's origin."""
    cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    return TestClient(app, raise_server_exceptions=False, headers=cookie, follow_redirects=False)


@pytest.fixture
def writes(
    database: Database, storage: Storage, owner: User, client: TestClient
) -> Iterator[list[str]]:
    """Every statement that changes the database, once a review is there to be changed."""
    with database.transaction() as session:
        a_ready_review(session, storage)
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            found.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield found
    event.remove(database.engine, "before_cursor_execute", note)


@pytest.fixture
def assert_all_refuse(
    app: FastAPI, browser: TestClient, writes: list[str], storage: Storage
) -> Callable[..., None]:
    """assert_all_refuse(**request): every unsafe route answers 403 and keeps nothing."""

    def check(**request: Any) -> None:
        answers = {
            (method, path): browser.request(method, path, **request).status_code
            for method, path in addresses(app, *UNSAFE)
        }
        assert len(answers) > 25
        assert set(answers.values()) == {403}, answers
        assert writes == []
        assert list(storage.uploads.glob("*")) == []

    return check


@pytest.mark.slow
@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_no_unsafe_route_takes_anything_from_elsewhere(
    assert_all_refuse: Callable[..., None], headers: dict[str, str]
) -> None:
    assert_all_refuse(headers=headers)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("who", ["another site", "another subdomain", "a foreign origin"])
def test_no_unsafe_route_takes_any_kind_of_body_from_elsewhere(
    assert_all_refuse: Callable[..., None], who: str, body: str
) -> None:
    own = BODIES[body].get("headers", {})
    assert_all_refuse(**BODIES[body] | {"headers": FOREIGN[who] | own})


@pytest.mark.slow
@pytest.mark.parametrize("headers", OURS.values(), ids=OURS)
def test_every_unsafe_route_takes_what_a_page_of_ours_sends(
    app: FastAPI, browser: TestClient, headers: dict[str, str]
) -> None:
    answers = {
        (method, path): browser.request(method, path, headers=headers).status_code
        for method, path in sorted(addresses(app, *UNSAFE), key=lambda one: one[1] == "/logout")
    }
    assert not {401, 403} & set(answers.values()), answers


@pytest.mark.slow
def test_no_safe_route_changes_anything(
    app: FastAPI, browser: TestClient, writes: list[str]
) -> None:
    """A link or a picture of another site can make a browser GET, and that is never refused."""
    for method, path in addresses(app, "GET", "HEAD", "OPTIONS"):
        answer = browser.request(method, path, headers=FOREIGN["another site"])
        assert answer.status_code < 500, path
        assert writes == [], path


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_the_login_button_takes_nothing_from_elsewhere(
    anonymous_client: TestClient, database: Database, owner: User, headers: dict[str, str]
) -> None:
    """Otherwise a page could sign a person in as someone else."""
    with database.transaction() as session:
        secret = accounts.issue_login_link(session, owner)
    sent = {"data": {"token": secret}, "follow_redirects": False}
    assert anonymous_client.post("/login", headers=headers, **sent).status_code == 403
    assert COOKIE not in anonymous_client.cookies
    assert anonymous_client.post("/login", headers=OWN_PAGE, **sent).status_code == 303


def test_a_program_with_a_token_needs_no_origin(api_client: TestClient) -> None:
    """No browser sends a token by itself."""
    for headers in FOREIGN.values():
        answer = api_client.post("/api/v1/tokens", json={"name": "x"}, headers=headers)
        assert answer.status_code == 201


# ── our own address ───────────────────────────────────────────────────────────────────────────────


def status(client: TestClient, **headers: str) -> int:
    return client.post("/api/v1/tokens", json={"name": "x"}, headers=headers).status_code


@pytest.mark.parametrize(
    "public_url", [PUBLIC_URL, f"{PUBLIC_URL}/", "https://Winnow.example.org:443"]
)
def test_behind_a_proxy_the_public_address_is_ours(
    app: FastAPI, browser: TestClient, public_url: str
) -> None:
    assert status(browser, Origin=PUBLIC_URL) == 403
    app.state.settings = app.state.settings.model_copy(update={"public_url": public_url})
    assert status(browser, Origin=PUBLIC_URL) == 201
    for foreign in (
        "http://winnow.example.org",
        f"{PUBLIC_URL}:8443",
        f"{PUBLIC_URL}.evil.example",
    ):
        assert status(browser, Origin=foreign) == 403


def test_a_proxy_that_is_trusted_says_the_scheme(app: FastAPI, browser: TestClient) -> None:
    sent = {"Host": "winnow.example.org", "X-Forwarded-Proto": "https", "Origin": PUBLIC_URL}
    assert status(browser, **sent) == 403
    browser.app = browser._transport.app = ProxyHeadersMiddleware(app, trusted_hosts="*")
    assert status(browser, **sent) == 201
    assert status(browser, **sent | {"Origin": "http://winnow.example.org"}) == 403


# ── whose page it is ──────────────────────────────────────────────────────────────────────────────


def test_no_page_acts_for_another_user(
    client: TestClient, owner: User, reviewer: User, writes: list[str]
) -> None:
    """A second user may have signed in while the first one's page was open."""
    act = {"client_key": "k", "image_id": 1, "action": "keep"}

    def decide(whose: str) -> int:
        sent = {"json": act, "headers": {PAGE_OF: whose}}
        return client.post("/api/v1/reviews/1/decisions", **sent).status_code

    assert [decide(whose) for whose in (str(reviewer.id), "", "nobody")] == [401] * 3
    assert writes == []
    assert decide(str(owner.id)) == 200
