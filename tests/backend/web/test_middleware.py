"""Login and security headers: on every route."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.storage import Storage
from backend.web import middleware
from tests.factories import a_data_set
from tests.routes import PUBLIC, UNSAFE, addresses

# ── signing in ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_nobody_gets_past_the_login(app: FastAPI, anonymous_client: TestClient) -> None:
    for method, path in addresses(app, "GET", *UNSAFE):
        answer = anonymous_client.request(method, path, follow_redirects=False)
        if path.startswith("/api/"):
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        elif method == "GET":
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (
                303,
                "/login",
            ), path
        else:
            assert answer.status_code == 401, path


def test_what_is_public_is_listed_and_answers_without_a_login(
    app: FastAPI, anonymous_client: TestClient
) -> None:
    for path in PUBLIC - {"/", "/static"}:
        assert anonymous_client.get(path).status_code == 200, path


# ── headers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def image(database: Database, storage: Storage) -> str:
    """The address of a thumbnail."""
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=2)
    (first, *_) = sorted(storage.data_set(data_set.id).glob("thumbnails/*/*.webp"))
    return f"/images/{data_set.id}/thumbnails/{first.stem}.webp"


@pytest.mark.slow
def test_every_kind_of_answer_carries_the_security_headers(
    app: FastAPI, client: TestClient, image: str
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    app.add_api_route("/broken", broken, include_in_schema=False)
    app.add_api_route("/api/v1/broken", broken, include_in_schema=False)
    kinds = {
        ("GET", "/datasets"): 200,
        ("GET", "/api/v1/data-sets"): 200,
        ("GET", "/api/openapi.json"): 200,
        ("GET", "/api/docs"): 200,
        ("GET", "/health"): 200,
        ("GET", "/favicon.ico"): 200,
        ("GET", "/static/css/base.css"): 200,
        ("GET", "/static/none.css"): 404,
        ("GET", image): 200,
        ("GET", image.replace("thumbnails", "elsewhere")): 404,
        ("GET", "/datasets/1/refusals.csv"): 200,
        ("GET", "/"): 303,
        ("GET", "/datasets/99"): 404,
        ("GET", "/api/v1/data-sets/99"): 404,
        ("GET", "/nowhere"): 404,
        ("DELETE", "/datasets"): 405,
        ("POST", "/api/v1/data-sets"): 422,
        ("GET", "/broken"): 500,
        ("GET", "/api/v1/broken"): 500,
        ("DELETE", "/api/v1/data-sets/1"): 204,
    }
    answers = [
        (client.request(*kind, follow_redirects=False), status) for kind, status in kinds.items()
    ]
    answers.append((client.post("/account/tokens", content=b"x" * 3_000_000), 413))
    for answer, status in answers:
        assert answer.status_code == status, answer.request.url
        for name, value in middleware.HEADERS.items():
            expected = answer.headers[name] if name == "Cache-Control" else value
            assert answer.headers[name] == expected, (answer.request.url, name)


def test_the_policy_allows_no_inline_script_or_style_and_no_other_host() -> None:
    policy = middleware.HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy
    for directive in (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
    ):
        assert directive in policy
    assert {"form-action 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))


@pytest.mark.slow
def test_no_page_has_what_the_policy_would_block(client: TestClient, image: str) -> None:
    for path in (
        "/datasets",
        "/datasets/1",
        "/datasets/1/runs/new",
        "/jobs",
        "/account",
        "/api/docs",
        "/login",
        "/nowhere",
    ):
        text = client.get(path).text
        assert not re.search(r"<script(?![^>]*(src=|type=\"application/json\"))", text), path
        assert not re.search(r"\s(style|on\w+)=\"", text), path
        assert not re.search(r"<style", text), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path


def test_private_pages_are_not_kept_and_images_are_kept_for_ever_by_this_browser_alone(
    client: TestClient, image: str
) -> None:
    assert client.get("/datasets").headers["cache-control"] == "no-store"
    assert client.get("/api/v1/data-sets").headers["cache-control"] == "no-store"
    assert client.get(image).headers["cache-control"] == "private, max-age=31536000, immutable"
    assert client.get("/static/css/base.css").headers["cache-control"] == "no-cache"
    assert (
        client.get("/static/css/base.css?v=1").headers["cache-control"]
        == "public, max-age=31536000, immutable"
    )


def test_no_static_address_leads_out_of_the_static_files(client: TestClient) -> None:
    for path in (
        "%2e%2e/templates/base.html",
        "js/%2e%2e/%2e%2e/templates/base.html",
        "..%2f__init__.py",
        "%2fetc%2fpasswd",
        "%00",
        "css",
    ):
        assert client.get(f"/static/{path}").status_code == 404, path
