"""Signing in like a person, and a polling page after its session ended."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import delete

from backend.core.db import Database
from backend.core.models import Credential, User
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import follow
from tests.factories import a_data_set, a_job, a_run

pytestmark = pytest.mark.browser


def end_every_session(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Credential).where(Credential.kind == "session"))


def test_opening_a_link_in_one_browser_leaves_it_to_the_next(
    live_server: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> None:
    """Mail scanners open links in real browsers."""
    link = login_link(owner)
    scanner = open_page(live_server)
    scanner.goto(link)
    expect(scanner.get_by_text("This link signs you in, once. It is for olga.")).to_be_visible()
    scanner.goto("/datasets")
    expect(scanner.get_by_role("heading", name="Sign in with a link")).to_be_visible()
    person = open_page(live_server)
    follow(person, link)
    expect(person).to_have_url(f"{live_server}/datasets")
    expect(person.get_by_role("link", name="olga")).to_be_visible()


def test_the_button_pressed_twice_signs_in_once(
    live_server: str, open_page: Callable[..., Page], login_link: Callable[[User], str], owner: User
) -> None:
    page = open_page(live_server)
    page.goto(login_link(owner))
    page.get_by_role("button", name="Sign in").dblclick()
    expect(page).to_have_url(f"{live_server}/datasets")


def test_another_persons_link_says_whom_it_signs_out_and_both_ways_work(
    page: Page, live_server: str, login_link: Callable[[User], str], reviewer: User
) -> None:
    link = login_link(reviewer)
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("You are signed in as olga.")
    page.get_by_role("link", name="Stay signed in as olga").click()
    expect(page).to_have_url(f"{live_server}/datasets")
    expect(page.get_by_role("link", name="olga")).to_be_visible()
    page.goto(link)
    page.get_by_role("button", name="Sign in as rita instead").click()
    expect(page.get_by_role("link", name="rita")).to_be_visible()


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
    follow(page, login_link(owner))
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
