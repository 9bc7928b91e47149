"""Two hundred decisions by keyboard through lost answers, cut network and expired session."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import delete, select

from backend.core.db import Database
from backend.core.models import Credential, Decision, Review, User
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import (
    Server,
    at_rank,
    follow,
    open_focus,
    open_grid,
    press,
    status,
    until_all_are_sent,
)
from tests.reviewing import a_ready_review

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COUNT = 200
KEYS = {"e": "remove", "k": "keep", "u": "unsure"}


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """210 suggestions."""
    with database.transaction() as session:
        return a_ready_review(session, storage, per_class=100)


# Requests that pass while every fifth answer gets lost.
ENOUGH = 5


class Trouble:
    """The faults, by the number of the decision that follows."""

    def __init__(self, page: Page, database: Database, sign_in: Callable[[], str]) -> None:
        self._page = page
        self._database = database
        self._sign_in = sign_in
        self.lost = 0

    def before(self, number: int) -> None:
        steps = {
            20: lambda: self._page.route(re.compile("/decisions"), self._lose_some),
            60: self._lose_no_more,
            80: self._cut,
            84: lambda: self._page.context.set_offline(False),
            120: self._sign_out,
            124: self._sign_in_again,
        }
        if number in steps:
            steps[number]()

    def _lose_some(self, route: Route) -> None:
        """The server decides, and its answer gets lost: every fifth time."""
        self.lost += 1
        if self.lost % 5:
            route.fallback()
            return
        route.fetch()
        route.abort()

    def _lose_no_more(self) -> None:
        while self.lost <= ENOUGH:  # keys are quicker than answers
            self._page.wait_for_event("request")
        self._page.unroute_all(behavior="wait")  # for answers that are being lost

    def _cut(self) -> None:
        self._page.wait_for_load_state("networkidle")  # everything is prefetched
        self._page.context.set_offline(True)

    def _sign_out(self) -> None:
        until_all_are_sent(self._page)
        expect(status(self._page)).to_have_attribute("data-state", "saved")
        self._page.wait_for_load_state("networkidle")
        with self._database.transaction() as session:
            session.execute(delete(Credential).where(Credential.kind == "session"))

    def _sign_in_again(self) -> None:
        expect(status(self._page)).to_contain_text("You are signed out.")
        other = self._page.context.new_page()
        follow(other, self._sign_in())
        other.close()
        self._page.bring_to_front()


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_two_hundred_decisions_arrive_once_each(
    page: Page,
    review: Review,
    database: Database,
    owner: User,
    login_link: Callable[[User], str],
    page_errors: PageErrors,
    view: str,
) -> None:
    page_errors.expect(
        r"ERR_INTERNET_DISCONNECTED|ERR_FAILED|401 \(Unauthorized\)|403 \(Forbidden\)"
    )
    trouble = Trouble(page, database, lambda: login_link(owner))
    if view == "grid":
        open_grid(page, review, "?size=all")
    else:
        open_focus(page, review)
    expected = {}
    for number in range(1, COUNT + 1):
        if view == "focus":
            at_rank(page, number)
        trouble.before(number)
        key = "eku"[number % 3]
        press(page, key)
        expected[number] = KEYS[key]
    page.context.set_offline(False)
    until_all_are_sent(page)
    Server(database, review).wait_for(expected)
    expect(status(page)).to_have_attribute("data-state", "saved")
    assert trouble.lost > ENOUGH
    with database.transaction(write=False) as session:
        decided = list(
            session.scalars(select(Decision.image_id).where(Decision.review_id == review.id))
        )
    assert len(decided) == len(set(decided)) == COUNT
    assert (
        page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('winnow:outbox:'))")
        == []
    )
