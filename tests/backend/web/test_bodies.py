"""Bodies that are too large, slow, cut, or a stranger's."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.accounts.dependencies import COOKIE
from backend.core.settings import Settings
from backend.core.storage import Storage
from backend.web.bodies import UPLOADS
from tests.asgi import form, send_in_pieces
from tests.conftest import OWN_PAGE

UPLOAD_BYTES = 100_000
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
TOO_MUCH = b"x" * (2 * 2**20 + 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", max_upload_bytes=UPLOAD_BYTES)


def cookie_of(client: TestClient) -> dict[str, str]:
    """The headers of a browser on a page of Winnow."""
    return OWN_PAGE | {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}


def uploads(storage: Storage) -> list[Path]:
    return list(storage.uploads.glob("*"))


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


@pytest.mark.parametrize("path", UPLOADS)
def test_an_upload_that_announces_too_much_is_refused_unread(
    app: FastAPI, client: TestClient, path: str
) -> None:
    headers = {**cookie_of(client), **FORM, "Content-Length": str(UPLOAD_BYTES + 1)}
    answer = send_in_pieces(app, path, headers, [b"x"])
    assert (answer.status, answer.pieces_read) == (413, 0)
    assert b"WINNOW_MAX_UPLOAD_BYTES" in answer.body


@pytest.mark.parametrize("path", UPLOADS)
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


@pytest.mark.parametrize("path", UPLOADS)
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


@pytest.mark.parametrize("path", UPLOADS)
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
    # Nobody reads the answer.
    assert send_in_pieces(app, "/account/tokens", ordinary, [b"name="], cut=True).status == 400
    upload = {**cookie_of(client), **FORM}
    body = form(("file", "a.zip", b"PK" * 500))
    assert send_in_pieces(app, "/datasets", upload, [body[:500]], cut=True).status == 422
    assert uploads(storage) == []
