"""Where a review stands, in a real Chromium: unfolded on its pages, fetched anew each time."""

import pytest
from playwright.sync_api import Page, expect

from backend.db import Database
from backend.models import Review, User
from backend.storage import Storage
from tests.browser.reviewing import open_focus, open_grid
from tests.reviewing import a_ready_review, decide, queue_of

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage, reviewer: User) -> Review:
    """42 suggestions; the reviewer has removed the first 12 and kept the 13 after them."""
    with database.transaction() as session:
        review = a_ready_review(session, storage)
        for row in queue_of(session, review)[:25]:
            decide(session, reviewer, review, row.image_id, "remove" if row.position <= 12 else "keep")
        return review


@pytest.mark.parametrize("opened", [open_grid, open_focus])
def test_it_is_unfolded_where_one_reviews(page: Page, review: Review, opened: object) -> None:
    assert callable(opened)
    opened(page, review)
    standing = page.locator("[data-part=standing]")
    expect(standing.locator("table")).to_have_count(0)
    standing.locator("summary").click()
    expect(standing.locator("table").first.locator("tbody tr")).to_have_count(3)
    expect(standing.get_by_role("row", name="rita")).to_contain_text("25")


def test_unfolding_it_again_brings_it_up_to_date(page: Page, review: Review, database: Database, owner: User) -> None:
    open_grid(page, review)
    standing = page.locator("[data-part=standing]")
    standing.locator("summary").click()
    expect(standing.get_by_role("row", name="rita")).to_be_visible()
    with database.transaction() as session:
        decide(session, owner, review, queue_of(session, review)[30].image_id, "keep")
    standing.locator("summary").click()
    standing.locator("summary").click()
    expect(standing.get_by_role("row", name="olga (you)")).to_be_visible()
