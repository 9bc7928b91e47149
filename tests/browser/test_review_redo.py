"""Undo and redo in a real Chromium: key and button, grid and focus view, and after a reload."""

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import (
    Server,
    at_rank,
    here,
    open_focus,
    open_grid,
    press,
    status,
    tile,
)
from tests.reviewing import a_ready_review

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """42 suggestions of the classes left, middle and right."""
    with database.transaction() as session:
        return a_ready_review(session, storage)


@pytest.fixture
def server(database: Database, review: Review) -> Server:
    return Server(database, review)


@pytest.mark.parametrize("key", ["Shift+Z", "Control+Shift+Z", "Control+y"])
def test_each_of_three_keys_does_again(
    page: Page, review: Review, server: Server, key: str
) -> None:
    open_grid(page, review)
    press(page, "e", "z")
    server.wait_for({})
    press(page, key)
    server.wait_for({1: "remove"})
    expect(tile(page, 1)).to_have_attribute("data-decision", "remove")
    expect(status(page)).to_have_text("Done again: 1 image.")
    assert here(page) == 1


def test_the_buttons_undo_and_redo_one_act_each(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "e")
    at_rank(page, 2)
    press(page, "k")
    server.wait_for({1: "remove", 2: "keep"})
    page.get_by_role("button", name="Undo").click()
    server.wait_for({1: "remove"})
    expect(status(page)).to_have_text("Taken back: 1.")
    page.get_by_role("button", name="Redo").click()
    server.wait_for({1: "remove", 2: "keep"})
    expect(status(page)).to_have_text("Done again: 1.")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    expect(page.locator("[data-part=decision]")).to_have_text("Keep")


def test_a_whole_view_is_undone_and_done_again_after_a_reload(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review, "?size=25")
    press(page, "a")
    expect(page.locator("[data-part=say]")).to_contain_text("All 42 images")
    press(page, "u", "Enter")
    server.wait_for(dict.fromkeys(range(1, 43), "unsure"))
    open_grid(page, review, "?size=25")
    press(page, "z")
    server.wait_for({})
    open_grid(page, review, "?size=25")
    press(page, "Shift+Z")
    server.wait_for(dict.fromkeys(range(1, 43), "unsure"))
    expect(page.locator('.tile[data-decision="unsure"]')).to_have_count(25)


def test_with_nothing_to_do_again_the_page_says_so(
    page: Page, review: Review, page_errors: PageErrors
) -> None:
    page_errors.expect(r"404 \(Not Found\)")
    open_grid(page, review)
    page.get_by_role("button", name="Redo").click()
    expect(status(page)).to_have_text("There is nothing of yours to do again.")
