"""Errors as sentences: problem details (RFC 9457) or a page, without leaking internals."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DataError

from backend import migrations
from backend.accounts import service as accounts
from backend.core import queue
from backend.core.db import Database, make_engine
from backend.core.errors import AppError, Conflict
from backend.core.models import User
from backend.core.settings import Settings
from backend.main import create_app
from backend.web.transactions import SessionDep
from tests.reviewing import a_ready_review, images_of
from tests.running import wait_until

SECRET = "postgresql://winnow:hunter2@db/winnow"
BIG = 2**63


def fails() -> None:
    raise RuntimeError(SECRET)


def test_programs_get_problem_details(client: TestClient) -> None:
    kinds = {
        ("GET", "/api/v1/nowhere"): (404, "Not found"),
        ("GET", "/api/v1/data-sets/99"): (404, "Not found"),
        ("GET", "/api/v1/data-sets/abc"): (404, "Not found"),
        ("PUT", "/api/v1/data-sets"): (405, "That did not work"),
        ("GET", "/api/v1/jobs?limit=0"): (422, "Please check the input"),
        ("POST", "/api/v1/data-sets"): (422, "Please check the input"),
    }
    for (method, path), (status, title) in kinds.items():
        answer = client.request(method, path)
        assert answer.headers["content-type"] == "application/problem+json", path
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["title"]) == (
            status,
            status,
            title,
        ), path
        assert problem["type"] == "about:blank"
        assert problem["detail"].endswith("."), problem


def test_people_get_a_page_with_a_way_on(client: TestClient) -> None:
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("GET", "/datasets/99", 404),
        ("GET", "/jobs?state=asleep", 422),
        ("PUT", "/jobs", 405),
    ]:
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "text/html; charset=utf-8",
        )
        assert 'role="alert"' in answer.text
        assert 'href="/datasets"' in answer.text


def test_an_error_page_still_says_who_is_signed_in(client: TestClient) -> None:
    assert ">olga</a>" in client.get("/datasets/99").text


def test_a_wrong_method_is_named_and_the_right_one_announced(client: TestClient) -> None:
    answer = client.put("/api/v1/jobs")
    assert answer.json()["detail"] == "This address does not take PUT requests."
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/data-sets/1", "DELETE, GET, PATCH"),
        ("POST", "/api/v1/reviews/1/second-opinion", "DELETE, PUT"),
        ("DELETE", "/login", "GET, HEAD, POST"),
        ("POST", "/static/css/base.css", "GET, HEAD"),
        # A word where a number could be is another address.
        ("PATCH", "/api/v1/data-sets/upload", "POST"),
        ("DELETE", "/api/v1/data-sets/upload", "POST"),
    ],
)
def test_every_method_that_an_address_takes_is_announced(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("number", ["abc", "-1", "1.0", "9" * 5000, "²", "%00"])
def test_what_is_no_number_is_no_address(client: TestClient, number: str) -> None:
    for path in (f"/api/v1/runs/{number}", f"/runs/{number}", f"/reviews/{number}/focus"):
        assert client.get(path).status_code == 404, path


def test_each_wrong_field_is_named(client: TestClient) -> None:
    answer = client.post(
        "/api/v1/data-sets", json={"source": {"kind": "usb stick"}, "seed": -1, "colour": "red"}
    )
    problem = answer.json()
    assert answer.status_code == 422
    assert [error["field"] for error in problem["errors"]] == ["seed", "source.kind", "colour"]
    assert "source.kind: must be 'sample', 'folder', 'zip' or 'idx'." in problem["detail"]


def test_half_a_character_is_refused_in_plain_words(client: TestClient) -> None:
    answer = client.post(
        "/api/v1/tokens",
        content=b'{"name": "\\ud800"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert answer.json()["detail"] == "name: must be a text, and holds half of a character."


def test_a_number_of_thousands_of_digits_is_too_large(client: TestClient) -> None:
    assert (
        client.get("/api/v1/data-sets", params={"limit": "9" * 5000}).json()["detail"]
        == "limit: is too large a number."
    )


@pytest.mark.parametrize("body", ["{", '{"name": "x",}', "name=x", "[", '"\\ud800'])
def test_a_body_that_is_not_json_is_said_to_be_so(client: TestClient, body: str) -> None:
    answer = client.post(
        "/api/v1/tokens", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "this is not JSON, from character" in answer.json()["detail"]


def test_a_body_of_another_kind_is_refused(client: TestClient) -> None:
    assert (
        client.post(
            "/api/v1/tokens", content=b"\xff\xfe", headers={"Content-Type": "text/plain"}
        ).status_code
        == 422
    )
    broken = client.post(
        "/account/tokens", content=b"--nothing", headers={"Content-Type": "multipart/form-data"}
    )
    assert (broken.status_code, "Missing boundary in multipart." in broken.text) == (400, True)


@pytest.mark.parametrize("path", ["/broken", "/api/v1/broken"])
def test_what_nobody_foresaw_says_nothing_of_itself_but_is_in_the_log(
    app: FastAPI, client: TestClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_api_route(path, fails)
    answer = client.get(path)
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    for inside in ("hunter2", "RuntimeError", "Traceback", ".py"):
        assert inside not in answer.text
    assert SECRET in caplog.text


def test_a_failed_request_changes_nothing(
    app: FastAPI, client: TestClient, database: Database
) -> None:
    def changes_then_fails(session: SessionDep) -> None:
        accounts.create_user(session, "ghost")
        raise RuntimeError

    app.add_api_route("/broken", changes_then_fails, methods=["POST"])
    assert client.post("/broken").status_code == 500
    with database.transaction(write=False) as session:
        assert [user.name for user in accounts.list_users(session)] == ["olga"]


def test_a_refusal_raised_after_a_change_takes_it_back(
    app: FastAPI, client: TestClient, database: Database
) -> None:
    def changes_then_refuses(session: SessionDep) -> None:
        accounts.create_user(session, "ghost")
        raise AppError("No.")

    app.add_api_route("/refused", changes_then_refuses, methods=["POST"])
    assert client.post("/refused").status_code == 400
    with database.transaction(write=False) as session:
        assert [user.name for user in accounts.list_users(session)] == ["olga"]


# ── who is not signed in ──────────────────────────────────────────────────────────────────────────


def test_a_page_that_somebody_opens_leads_to_signing_in_and_back(
    anonymous_client: TestClient,
) -> None:
    for headers in ({}, {"Sec-Fetch-Mode": "navigate"}):
        answer = anonymous_client.get(
            "/jobs?state=done&after=7", headers=headers, follow_redirects=False
        )
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "/login?next=%2Fjobs%3Fstate%3Ddone%26after%3D7",
        )


@pytest.mark.parametrize("mode", ["cors", "no-cors", "same-origin"])
def test_what_a_page_fetches_gets_the_status_and_no_login_page_in_its_place(
    anonymous_client: TestClient, mode: str
) -> None:
    answer = anonymous_client.get(
        "/runs/1/epochs", headers={"Sec-Fetch-Mode": mode}, follow_redirects=False
    )
    assert answer.status_code == 401


def test_htmx_is_told_to_open_the_login_page_in_place_of_filling_a_fragment_with_it(
    anonymous_client: TestClient,
) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/7?x=1"}
    answer = anonymous_client.get("/jobs/1/progress", headers=headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (
        401,
        "/login?next=%2Fruns%2F7%3Fx%3D1",
    )


# urlsplit raises ValueError for each.
NO_ADDRESSES = ("http://[", "//[::1", "http://\u2100.com", "http://[v1.x", "/\\[")


@pytest.mark.slow
@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_an_address_that_is_none_is_passed_over(
    anonymous_client: TestClient, client: TestClient, database: Database, address: str
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        image = images_of(session, review, 1)[0]
    headers = {"HX-Request": "true", "HX-Current-URL": address.encode()}
    assert anonymous_client.get("/jobs", headers=headers).headers["hx-redirect"] == "/login"
    for path in ("decide", "undo", "redo", "undo"):
        answer = client.post(
            f"/reviews/{review.id}/{path}",
            data={"back": address, "action": "keep", "image_id": image},
            follow_redirects=False,
        )
        assert answer.headers["location"].rstrip("?") == f"/reviews/{review.id}", path
    for path in ("/login", "/jobs", "/api/v1/me", "/nowhere"):
        assert client.get(path, params={"next": address}).status_code < 500
        answer = client.get(path, headers={"Host": address.encode()})
        assert answer.status_code < 500


def test_a_form_that_was_sent_too_late_says_so(anonymous_client: TestClient) -> None:
    answer = anonymous_client.post("/account/tokens", data={"name": "x"}, follow_redirects=False)
    assert (
        answer.status_code,
        "Please sign in." in answer.text,
        'href="/login"' in answer.text,
    ) == (401, True, True)


# ── the database ──────────────────────────────────────────────────────────────────────────────────


def test_a_database_that_is_away_is_said_to_be_so(tmp_path: Path) -> None:
    app = create_app(
        Settings(
            home=tmp_path, database_url="postgresql+psycopg://winnow:hunter2@127.0.0.1:1/winnow"
        )
    )
    with_nothing_behind = TestClient(app, raise_server_exceptions=False)
    answer = with_nothing_behind.get("/health")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert "hunter2" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"\xff", b"\0"])
def test_a_damaged_database_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    settings = Settings(home=tmp_path)
    migrations.upgrade(settings)
    file = tmp_path / "winnow.db"
    monkeypatch.setattr(queue, "send", lambda _job_id: None)
    with TestClient(create_app(settings), raise_server_exceptions=False) as whole:
        assert whole.get("/health").json() == {"status": "ok"}
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(damage * (file.stat().st_size - 4096))
    with pytest.raises(Conflict, match="restore the latest backup"):
        migrations.prepare(settings)
    with TestClient(create_app(settings), raise_server_exceptions=False) as damaged:
        wait_until(lambda: damaged.get("/health").status_code == 503, 5, "the quick check")
        assert "restore the latest backup" in damaged.get("/health").json()["detail"]
        answer = damaged.get("/api/v1/me", headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.json()["title"]) == (503, "Not available right now")
        assert "file is damaged" in answer.json()["detail"]


def test_a_full_disk_is_said_to_be_so_and_the_database_stays_whole(
    app: FastAPI, client: TestClient, settings: Settings
) -> None:
    """SQLite's own page limit stands in for a full disk: same place, same error."""
    if not settings.database.startswith("sqlite"):
        pytest.skip("PostgreSQL has no limit of pages to stand in for a disk")

    def fill(session: SessionDep) -> None:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        for number in range(1_000):
            accounts.create_user(session, f"{number} {'x' * 90}")

    app.add_api_route("/api/v1/fill", fill, methods=["POST"])
    answer = client.post("/api/v1/fill")
    assert (answer.status_code, answer.json()["title"]) == (507, "The disk is full")
    engine = make_engine(settings.database)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert connection.execute(text("SELECT count(*) FROM users")).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/unstorable", "text/html"), ("/api/v1/unstorable", "application/problem+json")],
)
def test_what_postgresql_refuses_to_keep_is_the_inputs_fault(
    app: FastAPI, client: TestClient, path: str, kind: str
) -> None:
    def refuses() -> None:
        raise DataError(
            SECRET, None, ValueError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        )

    app.add_api_route(path, refuses)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (422, kind)
    assert "cannot be stored" in answer.text
    assert "hunter2" not in answer.text


ASKED_BY_NUMBER = (
    "/datasets/{}",
    "/runs/{}",
    "/jobs/{}",
    "/reviews/{}",
    "/cleansings/{}",
    "/api/v1/data-sets/{}",
    "/api/v1/runs/{}",
)


@pytest.mark.parametrize("number", [BIG - 1, BIG, 10**30, "9" * 5_000])
def test_a_number_that_no_database_holds_is_not_there(
    client: TestClient, number: int | str
) -> None:
    for path in ASKED_BY_NUMBER:
        assert client.get(path.format(number)).status_code == 404, path
    assert client.get(f"/api/v1/jobs?after={number}").status_code in (200, 404, 422)


def test_an_overflow_of_our_own_is_still_our_fault(app: FastAPI, client: TestClient) -> None:
    def overflows() -> None:
        raise OverflowError("math range error")

    app.add_api_route("/overflows", overflows)
    assert client.get("/overflows").status_code == 500


def test_a_person_who_was_removed_is_nobody_at_once(
    client: TestClient, sign_in: Callable[[User], TestClient], database: Database, owner: User
) -> None:
    with database.transaction() as session:
        accounts.create_user(session, "second owner", "owner")
        accounts.remove_user(session, owner)
    assert client.get("/datasets", follow_redirects=False).status_code == 303
    assert client.get("/api/v1/me").status_code == 401
