"""Signing in like a person, and a polling page after its session ended."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import delete

from backend.core.db import Database
from backend.core.models import Credential, User
from tests.browser.conftest import PageErrors
from tests.factories import a_data_set, a_job, a_run

pytestmark = pytest.mark.browser


def end_every_session(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Credential).where(Credential.kind == "session"))


def test_a_link_signs_in_without_a_further_click(
    live_server: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> None:
    page = open_page(live_server)
    page.goto(login_link(owner))
    expect(page).to_have_url(f"{live_server}/datasets")
    expect(page.get_by_role("link", name="olga")).to_be_visible()
    assert "token=" not in page.url


def test_a_link_that_was_looked_at_by_a_program_still_works_by_its_button(
    live_server: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> None:
    page = open_page(live_server, extra_http_headers={"Sec-Purpose": "prefetch"})
    page.goto(login_link(owner))
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{live_server}/datasets")


def test_a_page_that_follows_a_job_leads_to_signing_in_and_back(
    page: Page,
    live_server: str,
    database: Database,
    owner: User,
    login_link: Callable[[User], str],
    page_errors: PageErrors,
) -> None:
    page_errors.expect("401")
    with database.transaction() as session:
        data_set = a_data_set(session, per_class=4)
        run = a_run(session, data_set, state="queued")
        run.job_id = a_job(
            session, subject_id=run.id, data_set_id=data_set.id, state="running", claim="x"
        ).id
    page.goto(f"/runs/{run.id}")
    expect(page.get_by_role("progressbar", name="A train job")).to_be_visible()
    end_every_session(database)
    expect(page.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    page.goto(login_link(owner))
    expect(page).to_have_url(f"{live_server}/runs/{run.id}")


def test_signing_out_ends_at_the_way_to_sign_in(page: Page, live_server: str) -> None:
    page.goto("/account")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    page.goto("/datasets")
    expect(page).to_have_url(f"{live_server}/login?next=%2Fdatasets")


def test_the_apis_reference_opens_without_another_host(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/api/docs")
    page.get_by_text("Train on a data set").click()
    expect(page.get_by_text("Step size η.")).to_be_visible()
    assert all(address.startswith("http://127.0.0.1:") for address in asked)
