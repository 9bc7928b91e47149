"""Signing in and out, sessions, API tokens, roles; a secret is shown to its owner alone."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from backend.accounts import service
from backend.accounts.dependencies import COOKIE
from backend.cli.serving import without_secrets
from backend.core.db import Database
from backend.core.errors import Conflict, Invalid, NotFound, Unauthenticated
from backend.core.invocation import winnow
from backend.core.models import Credential, DataSet, Suggestion, User, now
from backend.core.settings import Settings
from backend.core.storage import Storage
from tests.conftest import NAVIGATION, OWN_PAGE
from tests.factories import a_data_set, a_user
from tests.reviewing import a_ready_review

Link = Callable[[User], str]


@pytest.fixture
def link(database: Database) -> Link:
    """link(user): the secret of a fresh login link."""

    def issue(user: User) -> str:
        with database.transaction() as session:
            return service.issue_login_link(session, user)

    return issue


# Returns the test client's own response class.
def look(client: TestClient, secret: str, **headers: str):  # type: ignore[no-untyped-def]
    """Open a login link's page like a browser."""
    return client.get(
        "/", params={"token": secret}, headers=NAVIGATION | headers, follow_redirects=False
    )


# Returns the test client's own response class.
def open_link(  # type: ignore[no-untyped-def]
    client: TestClient, secret: str, replaces: User | None = None
):
    """Press the button of a login link's page."""
    data = {"token": secret, "replaces": str(replaces.id) if replaces else ""}
    return client.post("/login", data=data, headers=OWN_PAGE, follow_redirects=False)


def grow_old(database: Database, kind: str, by: timedelta) -> None:
    """Move the credentials of that kind into the past."""
    with database.transaction() as session:
        for one in session.scalars(
            select(Credential).where(Credential.kind == kind, Credential.expires_at.is_not(None))
        ):
            assert one.expires_at is not None
            one.expires_at -= by


# ── the login link ────────────────────────────────────────────────────────────────────────────────


def test_a_login_link_signs_in_and_leads_to_the_data_sets(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    answer = open_link(anonymous_client, link(owner))
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert anonymous_client.get("/api/v1/me").json() == {
        "id": owner.id,
        "name": "olga",
        "role": "owner",
    }


def test_a_login_link_works_once(app: FastAPI, owner: User, link: Link) -> None:
    secret = link(owner)
    assert open_link(TestClient(app), secret).status_code == 303
    second = TestClient(app)
    answer = open_link(second, secret)
    assert answer.status_code == 401
    assert (
        "was used already or is too old. Get a new one on the server, in Winnow&#39;s folder: "
        in answer.text
    )
    assert COOKIE not in second.cookies


def test_a_second_click_by_somebody_who_is_signed_in_is_no_error(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    secret = link(owner)
    open_link(anonymous_client, secret)
    assert open_link(anonymous_client, secret).status_code == 303
    assert anonymous_client.get("/api/v1/me").status_code == 200


def test_a_second_click_with_a_session_that_has_ended_says_what_is_wrong(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    secret = link(owner)
    anonymous_client.cookies.set(COOKIE, "of long ago")
    open_link(TestClient(anonymous_client.app), secret)
    assert open_link(anonymous_client, secret).status_code == 401


def test_a_login_link_grows_too_old_after_a_day(
    anonymous_client: TestClient, owner: User, link: Link, database: Database
) -> None:
    young, old = link(owner), link(owner)
    grow_old(database, "login_link", timedelta(hours=23, minutes=59))
    assert open_link(anonymous_client, young).status_code == 303
    grow_old(database, "login_link", timedelta(minutes=2))
    assert open_link(TestClient(anonymous_client.app), old).status_code == 401


@pytest.mark.parametrize("secret", ["nonsense", "x" * 10_000, "' OR 1=1 --", "\x00", "é"])
def test_a_made_up_link_signs_nobody_in(
    anonymous_client: TestClient, owner: User, secret: str
) -> None:
    assert look(anonymous_client, secret).status_code == 401
    # A stranger's body of 10,000 bytes is not read.
    refused = 413 if len(secret) == 10_000 else 401
    assert open_link(anonymous_client, secret).status_code == refused
    assert COOKIE not in anonymous_client.cookies


def test_an_api_token_is_no_login_link_and_a_session_is_no_api_token(
    app: FastAPI, client: TestClient, owner: User, database: Database
) -> None:
    with database.transaction() as session:
        token = service.create_token(session, owner, "x")
    assert open_link(TestClient(app, raise_server_exceptions=False), token).status_code == 401
    stolen = {"Authorization": f"Bearer {client.cookies[COOKIE]}"}
    assert TestClient(app).get("/api/v1/me", headers=stolen).status_code == 401
    assert TestClient(app, cookies={COOKIE: token}).get("/api/v1/me").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        NAVIGATION,
        NAVIGATION | {"Sec-Fetch-User": "?1", "Sec-Fetch-Site": "none"},
        NAVIGATION | {"Sec-Purpose": "prefetch"},
        {"Sec-Fetch-Mode": "no-cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_a_link_neither_signs_in_nor_uses_it_up(
    app: FastAPI, owner: User, link: Link, headers: dict[str, str], method: str
) -> None:
    """Mail scanners open links in real browsers, chat programs and browsers fetch ahead."""
    secret = link(owner)
    looking = TestClient(app)
    for _ in range(2):
        answer = looking.request(method, "/", params={"token": secret}, headers=headers)
        assert answer.status_code == 200
        # Only the origin, so that no Referer has the secret and the button can say where it stands.
        assert answer.headers["referrer-policy"] == "strict-origin"
        if method == "GET":
            assert "This link signs you in, once." in answer.text
            assert 'method="post" action="/login"' in answer.text
    assert COOKIE not in looking.cookies
    person = TestClient(app)
    assert open_link(person, secret).status_code == 303
    assert person.get("/api/v1/me").status_code == 200


def test_a_used_link_says_so_when_it_is_opened(app: FastAPI, owner: User, link: Link) -> None:
    secret, person = link(owner), TestClient(app)
    open_link(person, secret)
    answer = look(TestClient(app), secret)
    assert answer.status_code == 401
    assert "was used already or is too old" in answer.text
    # Whom it signed in goes on.
    again = look(person, secret)
    assert (again.status_code, again.headers["location"]) == (303, "/datasets")


def test_another_persons_link_replaces_the_session_only_after_saying_so(
    app: FastAPI, client: TestClient, owner: User, reviewer: User, link: Link
) -> None:
    secret, kept = link(reviewer), client.cookies[COOKIE]
    told = look(client, secret).text
    assert "You are signed in as <b>olga</b>." in told
    assert "It is for <b>rita</b>." in told
    # A page that was opened before olga signed in asks again.
    assert "You are signed in as <b>olga</b>." in open_link(client, secret).text
    assert client.get("/api/v1/me").json()["name"] == "olga"
    assert open_link(client, secret, replaces=owner).status_code == 303
    assert client.get("/api/v1/me").json()["name"] == "rita"
    # The session that was replaced has ended.
    assert TestClient(app, cookies={COOKIE: kept}).get("/api/v1/me").status_code == 401


def test_ones_own_link_is_not_needed_and_still_works(
    client: TestClient, owner: User, link: Link
) -> None:
    secret = link(owner)
    assert "You are signed in as olga already." in look(client, secret).text
    assert open_link(client, secret).status_code == 303
    assert client.get("/api/v1/me").status_code == 200


def test_a_name_is_shown_as_text_on_a_links_page(
    anonymous_client: TestClient, link: Link, database: Database
) -> None:
    with database.transaction() as session:
        person = service.create_user(session, "<b>rita</b>")
    assert "It is for <b>&lt;b&gt;rita&lt;/b&gt;</b>." in look(anonymous_client, link(person)).text


def test_the_login_page_can_be_looked_at_with_head(anonymous_client: TestClient) -> None:
    assert anonymous_client.head("/login").status_code == 200


def test_the_button_refuses_another_site_and_an_empty_form(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    foreign = anonymous_client.post(
        "/login", data={"token": link(owner)}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert foreign.status_code == 403
    assert anonymous_client.post("/login", data={}, headers=OWN_PAGE).status_code == 401


# ── the page to return to ─────────────────────────────────────────────────────────────────────────


def test_after_signing_in_one_is_where_one_wanted_to_be(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    asked = anonymous_client.get("/jobs?state=done", follow_redirects=False)
    anonymous_client.get(asked.headers["location"])
    answer = open_link(anonymous_client, link(owner))
    assert answer.headers["location"] == "/jobs?state=done"
    # Only this once.
    assert open_link(anonymous_client, link(owner)).headers["location"] == "/datasets"


def test_a_reviewer_lands_at_the_newest_review_with_work_to_do(
    app: FastAPI, reviewer: User, owner: User, link: Link, database: Database
) -> None:
    def land(user: User) -> str:
        return str(open_link(TestClient(app), link(user)).headers["location"])

    assert land(reviewer) == "/datasets"
    with database.transaction() as session:
        done, open_review = a_ready_review(session), a_ready_review(session, name="Other")
        outdated, waiting = a_ready_review(session, name="Old"), a_ready_review(session, name="New")
        session.get_one(DataSet, outdated.data_set_id).current_version_id = 4711
        waiting.state = "queued"
    assert land(reviewer) == f"/reviews/{open_review.id}"
    assert land(owner) == "/datasets"
    with database.transaction() as session:
        session.execute(update(Suggestion).values(decision="keep"))
    assert land(reviewer) == "/datasets"
    assert done.id < open_review.id


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil",
        "/\t/evil.example",
    ],
)
def test_nobody_is_led_to_another_site(
    app: FastAPI, owner: User, link: Link, client: TestClient, elsewhere: str
) -> None:
    browser = TestClient(app)
    browser.get("/login", params={"next": elsewhere})
    assert open_link(browser, link(owner)).headers["location"] == "/datasets"
    forged = TestClient(app, cookies={"winnow_next": elsewhere})
    assert open_link(forged, link(owner)).headers["location"] == "/datasets"
    assert (
        client.get("/login", params={"next": elsewhere}, follow_redirects=False).headers["location"]
        == "/datasets"
    )


def test_who_is_signed_in_needs_no_login_page(client: TestClient) -> None:
    answer = client.get("/login?next=/jobs", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")


# ── the session ───────────────────────────────────────────────────────────────────────────────────


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(
    anonymous_client: TestClient, owner: User, link: Link
) -> None:
    (cookie,) = [
        one
        for one in open_link(anonymous_client, link(owner)).headers.get_list("set-cookie")
        if one.startswith(COOKIE)
    ]
    parts = cookie.lower().split("; ")
    assert {"httponly", "samesite=lax", "path=/", f"max-age={30 * 86400}"} <= set(parts)
    assert "secure" not in parts
    assert not any(part.startswith("domain") for part in parts)


@pytest.mark.parametrize("days", [1, 90])
def test_behind_tls_the_cookie_never_travels_in_the_open(
    app: FastAPI, owner: User, link: Link, settings: Settings, days: int
) -> None:
    settings.secure_cookies, settings.session_days = True, days
    (cookie,) = [
        one
        for one in open_link(TestClient(app), link(owner)).headers.get_list("set-cookie")
        if one.startswith(COOKIE)
    ]
    assert {"secure", f"max-age={days * 86400}"} <= set(cookie.lower().split("; "))


def test_a_session_ends_by_itself(client: TestClient, database: Database) -> None:
    grow_old(database, "session", timedelta(days=29, hours=23))
    assert client.get("/api/v1/me").status_code == 200
    grow_old(database, "session", timedelta(hours=2))
    assert client.get("/api/v1/me").status_code == 401
    assert (
        client.get("/datasets", follow_redirects=False).headers["location"]
        == "/login?next=%2Fdatasets"
    )


def test_each_login_makes_a_session_of_its_own(
    sign_in: Callable[[User], TestClient], owner: User
) -> None:
    laptop, tablet = sign_in(owner), sign_in(owner)
    assert laptop.cookies[COOKIE] != tablet.cookies[COOKIE]
    laptop.post("/logout")
    assert laptop.get("/api/v1/me").status_code == 401
    assert tablet.get("/api/v1/me").status_code == 200


def test_signing_out_ends_the_session_on_the_server_too(app: FastAPI, client: TestClient) -> None:
    kept = client.cookies[COOKIE]
    answer = client.post("/logout", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert COOKIE not in client.cookies
    assert TestClient(app, cookies={COOKIE: kept}).get("/api/v1/me").status_code == 401


def test_signing_out_empties_the_browsers_cache_and_pictures_end_at_once(
    client: TestClient, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=2)
    first = next(storage.data_set(data_set.id).glob("thumbnails/*/*.webp"))
    picture = f"/images/{data_set.id}/thumbnails/{first.stem}.webp"
    cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    assert client.get(picture).status_code == 200
    answer = client.post("/logout", headers={"Host": "localhost"}, follow_redirects=False)
    assert answer.headers["clear-site-data"] == '"cache"'
    assert client.get(picture, headers=cookie, follow_redirects=False).status_code == 303


def test_signing_in_again_ends_the_session_before(
    app: FastAPI, client: TestClient, owner: User, reviewer: User, link: Link
) -> None:
    before = client.cookies[COOKIE]
    form = {"token": link(reviewer), "replaces": str(owner.id)}
    client.post("/login", data=form, headers=OWN_PAGE)
    assert client.get("/api/v1/me").json()["name"] == reviewer.name
    other = TestClient(app, headers={"Cookie": f"{COOKIE}={before}"})
    assert other.get("/api/v1/me").status_code == 401


def test_a_foreign_page_replaces_nobodys_session(
    client: TestClient, owner: User, reviewer: User, link: Link
) -> None:
    for method, headers in [
        ("POST", {"Sec-Fetch-Site": "cross-site"}),
        ("POST", {"Sec-Fetch-Site": "same-site"}),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
    ]:
        address = {"params" if method == "GET" else "data": {"token": link(reviewer)}}
        path = "/" if method == "GET" else "/login"
        client.request(method, path, headers=headers, **address)
        assert client.get("/api/v1/me").json()["name"] == owner.name


def test_what_has_expired_is_forgotten_at_the_next_login(
    anonymous_client: TestClient, owner: User, link: Link, database: Database
) -> None:
    open_link(anonymous_client, link(owner))
    grow_old(database, "session", timedelta(days=40))
    grow_old(database, "login_link", timedelta(days=40))
    open_link(anonymous_client, link(owner))
    with database.transaction(write=False) as session:
        kinds = sorted(session.scalars(select(Credential.kind)))
    assert kinds == ["login_link", "session"]


# ── API tokens ────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_made_shown_once_listed_and_revoked(client: TestClient, app: FastAPI) -> None:
    made = client.post("/api/v1/tokens", json={"name": "nightly"}).json()
    program = TestClient(app, headers={"Authorization": f"Bearer {made['secret']}"})
    assert program.get("/api/v1/me").json()["name"] == "olga"
    listed = client.get("/api/v1/tokens").json()
    assert [(token["name"], token["secret"]) for token in listed] == [("nightly", None)]
    assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert program.get("/api/v1/me").status_code == 401
    assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 404


def test_the_same_on_the_page(client: TestClient, app: FastAPI) -> None:
    made = client.post("/account/tokens", data={"name": "<b>nightly</b>"})
    assert "&lt;b&gt;nightly" in made.text
    secret = made.text.partition("<pre><code>")[2].partition("</code>")[0]
    program = TestClient(app, headers={"Authorization": f"Bearer {secret}"})
    assert program.get("/api/v1/me").status_code == 200
    assert secret not in client.get("/account").text
    token_id = client.get("/api/v1/tokens").json()[0]["id"]
    assert (
        client.post(f"/account/tokens/{token_id}/revoke", follow_redirects=False).headers[
            "location"
        ]
        == "/account"
    )
    assert program.get("/api/v1/me").status_code == 401


def test_nobody_sees_or_ends_another_persons_token(
    client: TestClient, reviewer_client: TestClient
) -> None:
    made = client.post("/api/v1/tokens", json={"name": "mine"}).json()
    assert reviewer_client.get("/api/v1/tokens").json() == []
    assert reviewer_client.delete(f"/api/v1/tokens/{made['id']}").status_code == 404
    assert reviewer_client.post(f"/account/tokens/{made['id']}/revoke").status_code == 404
    assert len(client.get("/api/v1/tokens").json()) == 1


def test_a_session_cannot_be_ended_as_if_it_were_a_token(
    client: TestClient, database: Database
) -> None:
    with database.transaction(write=False) as session:
        session_id = session.scalar(select(Credential.id).where(Credential.kind == "session"))
    assert client.delete(f"/api/v1/tokens/{session_id}").status_code == 404
    assert client.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer ", "bearer", "Basic b2xnYTp4", "wrong", "Bearer é".encode()]
)
def test_an_unknown_token_is_refused(anonymous_client: TestClient, header: str | bytes) -> None:
    answer = anonymous_client.get(
        "/api/v1/me",
        headers=[(b"Authorization", header if isinstance(header, bytes) else header.encode())],
    )
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_wrong_token_is_refused_even_beside_a_good_cookie(client: TestClient) -> None:
    answer = client.get("/api/v1/me", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert f"make a new one in Winnow's folder: {winnow()} token create" in answer.json()["detail"]


def test_a_token_never_expires_by_itself_and_has_a_name(
    client: TestClient, database: Database
) -> None:
    client.post("/account/tokens", data={"name": "  "})
    client.post("/account/tokens", data={"name": "a\x00b\n" + "x" * 300})
    assert client.post("/api/v1/tokens", json={"name": ""}).status_code == 422
    assert client.post("/api/v1/tokens", json={"name": "x" * 101}).status_code == 422
    with database.transaction(write=False) as session:
        tokens = session.execute(
            select(Credential.name, Credential.expires_at).where(Credential.kind == "api_token")
        ).all()
    assert [(name, expires) for name, expires in tokens] == [
        ("token", None),
        ("a b " + "x" * 96, None),
    ]


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_the_database_or_in_the_logs(
    app: FastAPI,
    owner: User,
    link: Link,
    client: TestClient,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    secrets = [
        link(owner),
        client.cookies[COOKIE],
        client.post("/api/v1/tokens", json={"name": "x"}).json()["secret"],
    ]
    assert all(len(secret) >= 43 for secret in secrets)  # 256 bits
    for path in Path(settings.home).iterdir():
        if path.is_file():
            written = path.read_bytes()
            assert not any(secret.encode() in written for secret in secrets), path
    backend = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("backend")
    )
    assert not any(secret in backend for secret in secrets)


def test_the_log_of_requests_holds_no_login_link(caplog: pytest.LogCaptureFixture) -> None:
    """Log uvicorn's arguments: client, method, path, version of HTTP, status."""
    access = logging.getLogger("uvicorn.access")
    access.addFilter(without_secrets)
    caplog.set_level("INFO", "uvicorn.access")
    try:
        access.info(
            '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/?token=s3cret&x=1", "1.1", 303
        )
    finally:
        access.removeFilter(without_secrets)
    assert '"GET /?token=…&x=1 HTTP/1.1" 303' in caplog.text
    assert "s3cret" not in caplog.text


def test_no_two_secrets_are_alike(database: Database, owner: User) -> None:
    with database.transaction() as session:
        made = {service.create_token(session, owner, "x") for _ in range(100)}
    assert len(made) == 100


# ── people ────────────────────────────────────────────────────────────────────────────────────────


def test_people_are_added_found_and_listed(database: Database) -> None:
    with database.transaction() as session:
        service.create_user(session, "  Rita  Reviewer\n", "reviewer")
        service.create_user(session, "Ünal 🦊", "owner")
        assert [(user.name, user.role) for user in service.list_users(session)] == [
            ("Rita Reviewer", "reviewer"),
            ("Ünal 🦊", "owner"),
        ]
        for asked in ("Rita Reviewer", "Rita  Reviewer", " Rita\tReviewer "):
            assert service.find_user(session, asked).role == "reviewer"
        with pytest.raises(NotFound, match="nobody called rita"):
            service.find_user(session, "rita")


@pytest.mark.parametrize(
    ("name", "role", "error"),
    [
        ("", "owner", Invalid),
        (" \x00 ", "owner", Invalid),
        ("x" * 101, "owner", Invalid),
        ("x", "admin", Invalid),
    ],
)
def test_a_person_without_a_usable_name_or_role_is_refused(
    database: Database, name: str, role: str, error: type[Exception]
) -> None:
    with database.transaction() as session, pytest.raises(error):
        service.create_user(session, name, role)


def test_a_name_is_given_once(database: Database) -> None:
    with database.transaction() as session:
        a_user(session, "rita")
        with pytest.raises(Conflict, match="already a person called rita"):
            service.create_user(session, " rita ")


def test_the_last_owner_stays(database: Database, owner: User, reviewer: User) -> None:
    with database.transaction() as session:
        with pytest.raises(Conflict, match="only owner"):
            service.remove_user(session, owner)
        service.create_user(session, "second", "owner")
        service.remove_user(session, owner)
        service.remove_user(session, reviewer)
        assert [user.name for user in service.list_users(session)] == ["second"]


def test_removing_a_person_ends_all_that_signs_them_in(
    reviewer_client: TestClient, reviewer: User, link: Link, database: Database
) -> None:
    secret = link(reviewer)
    with database.transaction() as session:
        service.remove_user(session, reviewer)
        with pytest.raises(Unauthenticated):
            service.sign_in(session, secret, 30)
    assert reviewer_client.get("/api/v1/me").status_code == 401


def test_a_changed_role_counts_at_once(client: TestClient, owner: User, database: Database) -> None:
    assert client.get("/datasets/1/runs/new").status_code == 404
    with database.transaction() as session:
        session.execute(update(User).where(User.id == owner.id).values(role="reviewer"))
    assert client.get("/datasets/1/runs/new").status_code == 403


def test_the_first_owner_is_made_where_there_is_none_and_stays_the_same(database: Database) -> None:
    with database.transaction() as session:
        a_user(session, "rita", "reviewer")
        first = service.first_owner(session)
        assert (first.name, first.role) == ("me", "owner")
        assert service.first_owner(session).id == first.id


def test_a_link_clicked_twice_at_once_makes_one_session(
    database: Database, owner: User, link: Link
) -> None:
    secret = link(owner)
    with database.transaction() as session:
        service.sign_in(session, secret, 30)
        with pytest.raises(Unauthenticated):
            service.sign_in(session, secret, 30)
        assert (
            len(
                session.scalars(
                    select(Credential).where(
                        Credential.kind == "session", Credential.created_at <= now()
                    )
                ).all()
            )
            == 1
        )
