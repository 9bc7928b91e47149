"""Permissions: owners do everything, reviewers view and decide; missing things are not found."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.errors import Invalid
from backend.core.models import Base, User
from backend.core.storage import Storage
from backend.web.access import ROLES, may
from tests.routes import OWN_ACCOUNT, UNSAFE, addresses, asked_actions, blanked
from tests.world import a_world

# A reviewer may change decisions, and personal settings.
REVIEWERS_MAY = {
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/1"),
    ("POST", "/account/tokens"),
    ("POST", "/account/tokens/1/revoke"),
    ("POST", "/logout"),
    ("POST", "/api/v1/reviews/1/decisions"),
    ("POST", "/api/v1/reviews/1/decisions/bulk"),
    ("POST", "/api/v1/reviews/1/undo"),
    ("POST", "/api/v1/reviews/1/redo"),
    ("POST", "/api/v1/reviews/1/parts"),
    ("DELETE", "/api/v1/reviews/1/parts/1"),
    ("POST", "/api/v1/reviews/1/images/1/why"),
    ("POST", "/api/v1/reviews/1/map"),
    ("POST", "/api/v1/reviews/1/selections"),
    ("POST", "/reviews/1/decide"),
    ("POST", "/reviews/1/undo"),
    ("POST", "/reviews/1/redo"),
    ("POST", "/reviews/1/parts"),
}
OWNERS_LOOK = {("GET", "/datasets/1/runs/new"), ("GET", "/api/v1/data-sets/1/planted")}
# Lists, personal pages and new things: no number in the address leads to a row.
NO_ROW = {
    "/api/v1/jobs",
    "/api/v1/data-sets",
    "/api/v1/me",
    "/api/v1/tokens",
    "/jobs",
    "/datasets",
    "/account",
}


def rows(database: Database) -> dict[str, int]:
    with database.transaction(write=False) as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
        }


@pytest.mark.slow
def test_a_reviewer_changes_nothing_but_decisions_and_what_is_ones_own(
    app: FastAPI,
    reviewer_client: TestClient,
    database: Database,
    storage: Storage,
    owner: User,
    reviewer: User,
) -> None:
    with database.transaction() as session:
        a_world(session, storage, owner, reviewer)
    before = rows(database)
    answers = {
        (method, path): reviewer_client.request(
            method, path, json={}, follow_redirects=False
        ).status_code
        for method, path in addresses(app, *UNSAFE)
        if (method, path) not in REVIEWERS_MAY
    }
    assert len(answers) > 15
    assert set(answers.values()) == {403}, answers
    assert rows(database) == before


def test_what_only_owners_look_at_is_refused_to_reviewers(reviewer_client: TestClient) -> None:
    for method, path in OWNERS_LOOK:
        assert reviewer_client.request(method, path).status_code == 403


def test_the_refusal_says_who_may_and_what_one_may_oneself(reviewer_client: TestClient) -> None:
    answer = reviewer_client.post("/api/v1/data-sets", json={"source": {"kind": "sample"}})
    assert (
        answer.json()["detail"]
        == "Only an owner may do this. You can look at everything and decide in reviews."
    )
    assert (
        "Only an owner may do this"
        in reviewer_client.post("/datasets", data={"kind": "sample"}).text
    )


def test_every_unsafe_route_asks_for_an_action_or_is_ones_own_account(app: FastAPI) -> None:
    """A new route without a guard fails this test."""
    actions = asked_actions(app)
    unguarded = {key for key, asked in actions.items() if not asked}
    assert unguarded == {(method, blanked(path)) for method, path in OWN_ACCOUNT} | {
        ("POST", "/login")
    }
    for_reviewers = {key for key, asked in actions.items() if asked == {"review"}}
    assert for_reviewers == {
        (method, blanked(path)) for method, path in REVIEWERS_MAY - OWN_ACCOUNT
    }


@pytest.mark.slow
def test_a_role_added_to_the_table_is_refused_by_every_unsafe_route(
    app: FastAPI,
    sign_in: Callable[[User], TestClient],
    database: Database,
    storage: Storage,
    owner: User,
    reviewer: User,
    viewer: User,
) -> None:
    client = sign_in(viewer)
    with database.transaction() as session:
        a_world(session, storage, owner, reviewer)
    before = rows(database)
    for method, path in set(addresses(app, *UNSAFE)) - OWN_ACCOUNT:
        answer = client.request(method, path, json={}, follow_redirects=False)
        assert answer.status_code == 403, (method, path)
        assert "You can look at everything." in answer.text, (method, path)
    assert rows(database) == before
    decided = client.post("/api/v1/reviews/1/undo", json={"client_key": "k"}).json()["detail"]
    assert decided == "Only an owner or a reviewer may do this. You can look at everything."


def test_a_role_outside_the_table_allows_nothing_and_cannot_be_given(database: Database) -> None:
    stranger = User(name="x", role="emperor")
    assert not any(may(stranger, action) for action in ROLES["owner"].actions)
    assert not may(None, "review")
    refusal = "There is no role 'emperor'; there are owner and reviewer."
    with database.transaction() as session, pytest.raises(Invalid, match=refusal):
        accounts.create_user(session, "Ed", "emperor")


@pytest.mark.slow
def test_a_number_of_nothing_is_not_found_as_a_page_and_as_json(
    app: FastAPI, client: TestClient, api_client: TestClient
) -> None:
    bodies = {
        "/tokens": {},
        "/rename": {"name": "x"},
        "/data-sets/4711": {"name": "x"},
        "/answer": {"answer": "splits"},
        "/decisions": {"image_id": 1, "action": "keep", "client_key": "k"},
        "/bulk": {"image_ids": [1], "action": "keep", "client_key": "k"},
        "/undo": {"client_key": "k"},
        "/selections": {"image_ids": [1]},
        "/redo": {"client_key": "k"},
        "/decide": {"action": "keep", "image_id": "1"},
    }
    asked = 0
    for method, path in addresses(app, "GET", *UNSAFE, ids=4711):
        if path in NO_ROW or "4711" not in path:
            continue
        body = next((body for end, body in bodies.items() if path.endswith(end)), {})
        query = "?image_id=1" if path.endswith("/images") else ""
        if path.startswith("/api/"):
            answer = api_client.request(
                method, path + query, json=body if method != "GET" else None
            )
            assert answer.headers["content-type"] == "application/problem+json", path
        else:
            answer = client.request(
                method, path, data=body if method != "GET" else None, follow_redirects=False
            )
            assert answer.headers["content-type"] == "text/html; charset=utf-8", path
            assert "<h1>Not found</h1>" in answer.text
        assert answer.status_code == 404, (method, path, answer.text)
        assert "There is no" in answer.text, (method, path)
        asked += 1
    assert asked > 50


@pytest.mark.slow
def test_what_is_no_number_is_not_found_either(app: FastAPI, client: TestClient) -> None:
    for _, path in addresses(app, "GET", ids=4711):
        if "4711" not in path:
            continue
        for nonsense in ("abc", "-1", "1.5", "1e3", "%00"):
            assert client.get(
                path.replace("4711", nonsense), follow_redirects=False
            ).status_code in (404, 422), path
