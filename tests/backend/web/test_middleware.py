"""Login, security headers, and bodies that are too large: on every route."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.accounts.dependencies import COOKIE
from backend.core.db import Database
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.web import middleware
from tests.asgi import form, send_in_pieces
from tests.conftest import OWN_PAGE
from tests.factories import a_data_set
from tests.routes import PUBLIC, UNSAFE, addresses

UPLOAD_BYTES = 100_000
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", max_upload_bytes=UPLOAD_BYTES)


def cookie_of(client: TestClient) -> dict[str, str]:
    """The headers of a browser on a page of Winnow."""
    return OWN_PAGE | {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}


def uploads(storage: Storage) -> list[Path]:
    return list(storage.uploads.glob("*"))


# ── signing in ────────────────────────────────────────────────────────────────────────────────────


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
    answers.append(
        (client.post("/account/tokens", content=b"x" * (middleware.ORDINARY_BYTES + 1)), 413)
    )
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


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────

TOO_MUCH = b"x" * (middleware.ORDINARY_BYTES + 1)


def test_a_body_that_announces_too_much_is_refused_unread(app: FastAPI, client: TestClient) -> None:
    headers = {
        **cookie_of(client),
        "Content-Type": "application/json",
        "Content-Length": "9999999999",
    }
    answer = send_in_pieces(app, "/api/v1/tokens", headers, [b"{}"])
    assert (answer.status, answer.pieces_read) == (413, 0)


def test_a_body_that_announces_nothing_is_counted_and_not_read_to_its_end(
    app: FastAPI, client: TestClient
) -> None:
    headers = {
        **cookie_of(client),
        "Content-Type": "application/x-www-form-urlencoded",
        "Transfer-Encoding": "chunked",
    }
    answer = send_in_pieces(app, "/account/tokens", headers, [b"x" * 1_000_000] * 10)
    assert (answer.status, answer.pieces_read) == (413, 3)
    assert b"larger than the 2,097,152 bytes" in answer.body


@pytest.mark.parametrize("length", ["12x", "-1", "²"])
def test_a_length_that_is_no_number_counts_as_none(
    app: FastAPI, client: TestClient, length: str
) -> None:
    headers = {**cookie_of(client), "Content-Type": "application/json"}
    assert (
        send_in_pieces(
            app, "/api/v1/tokens", {**headers, "Content-Length": length}, [b'{"name": "x"}']
        ).status
        == 201
    )


def test_a_large_body_gets_problem_details_from_the_api_and_a_page_elsewhere(
    client: TestClient,
) -> None:
    answer = client.post(
        "/api/v1/tokens", content=TOO_MUCH, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert "larger than the 2,097,152 bytes" in answer.json()["detail"]
    page = client.post("/account/tokens", content=TOO_MUCH)
    assert (page.status_code, page.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert "<h1>Too large</h1>" in page.text


def test_only_the_two_addresses_that_take_uploads_take_large_bodies(
    app: FastAPI, client: TestClient
) -> None:
    """Otherwise strangers could fill the disk where forms are spooled."""
    headers = {**cookie_of(client), **FORM, "Transfer-Encoding": "chunked"}
    answer = send_in_pieces(app, "/account/tokens", headers, [b"x" * 1_000_000] * 10)
    assert (answer.status, answer.pieces_read) == (413, 3)


@pytest.mark.parametrize("path", middleware.UPLOADS)
def test_an_upload_that_announces_too_much_is_refused_unread(
    app: FastAPI, client: TestClient, path: str
) -> None:
    headers = {**cookie_of(client), **FORM, "Content-Length": str(UPLOAD_BYTES + 1)}
    answer = send_in_pieces(app, path, headers, [b"x"])
    assert (answer.status, answer.pieces_read) == (413, 0)
    assert b"WINNOW_MAX_UPLOAD_BYTES" in answer.body


@pytest.mark.parametrize("path", middleware.UPLOADS)
def test_an_upload_that_announces_nothing_is_counted_and_leaves_no_file(
    app: FastAPI, client: TestClient, storage: Storage, path: str
) -> None:
    headers = {**cookie_of(client), **FORM, "Transfer-Encoding": "chunked"}
    body = form(("file", "a.zip", b"x" * 10 * UPLOAD_BYTES))
    pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    answer = send_in_pieces(app, path, headers, pieces)
    assert answer.status == 413
    assert answer.pieces_read == UPLOAD_BYTES // 10_000 + 1
    assert b"larger than the 100,000 bytes" in answer.body
    assert uploads(storage) == []


@pytest.mark.parametrize("path", middleware.UPLOADS)
def test_an_upload_is_not_read_before_it_is_clear_who_sends_it(
    app: FastAPI, client: TestClient, reviewer_client: TestClient, storage: Storage, path: str
) -> None:
    body = form(("file", "a.zip", b"x" * 1000))
    assert send_in_pieces(app, path, FORM, [body]).pieces_read == 0
    headers = {**cookie_of(reviewer_client), **FORM}
    answer = send_in_pieces(app, path, headers, [body])
    assert (answer.status, answer.pieces_read) == (403, 0)
    foreign = {**cookie_of(client), **FORM, "Sec-Fetch-Site": "cross-site"}
    answer = send_in_pieces(app, path, foreign, [body])
    assert (answer.status, answer.pieces_read) == (403, 0)
    assert uploads(storage) == []


def writer_gets_in(settings: Settings) -> Callable[[int], None]:
    """Raise if the database's write lock is held."""

    def try_to_write(_: int) -> None:
        connection = sqlite3.connect(settings.home / "winnow.db", timeout=0, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        connection.close()

    return try_to_write


@pytest.mark.parametrize("path", middleware.UPLOADS)
def test_a_slow_upload_keeps_nobody_from_writing(
    app: FastAPI, client: TestClient, settings: Settings, path: str
) -> None:
    body = form(("name", None, b"slow"), ("file", "a.zip", b"PK" * 10_000))
    pieces = [body[start : start + 5_000] for start in range(0, len(body), 5_000)]
    answer = send_in_pieces(
        app, path, {**cookie_of(client), **FORM}, pieces, writer_gets_in(settings)
    )
    assert answer.status in (202, 303)
    assert answer.pieces_read == len(pieces)


@pytest.mark.parametrize(
    "path", ["/logout", "/account/tokens", "/datasets/1/runs", "/runs/1/reviews", "/api/v1/tokens"]
)
def test_a_slow_form_keeps_nobody_from_writing(
    app: FastAPI, client: TestClient, settings: Settings, path: str
) -> None:
    headers = {**cookie_of(client), "Content-Type": "application/x-www-form-urlencoded"}
    body = b"a_field_that_nobody_reads=and_its_value&name=x"
    answer = send_in_pieces(
        app, path, headers, [body[:5], body[5:20], body[20:]], writer_gets_in(settings)
    )
    assert answer.pieces_read == 3
    assert answer.status < 500


def test_a_sender_who_goes_away_is_no_error(
    app: FastAPI, client: TestClient, storage: Storage
) -> None:
    ordinary = {**cookie_of(client), "Content-Type": "application/x-www-form-urlencoded"}
    assert send_in_pieces(app, "/account/tokens", ordinary, [b"name="], cut=True).status == 0
    upload = {**cookie_of(client), **FORM}
    body = form(("file", "a.zip", b"PK" * 500))
    assert send_in_pieces(app, "/datasets", upload, [body[:500]], cut=True).status == 422
    assert uploads(storage) == []
