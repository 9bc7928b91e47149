"""A script or style sheet that does not load is said on the page."""

import re

import pytest
from playwright.sync_api import Page, expect

from backend.core.models import Review
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import open_grid

pytestmark = pytest.mark.browser

WORDS = "Part of this page did not load; reload it."


@pytest.mark.parametrize(
    "file",
    [
        "js/controllers/review-grid.js",
        "js/review/saving/outbox.js",  # needed by another module
        "js/app.js",
        "js/vendor/htmx",
        "css/review/tiles.css",
    ],
)
def test_a_file_that_does_not_load_is_said_and_reloading_helps(
    page: Page, review: Review, page_errors: PageErrors, file: str
) -> None:
    page_errors.expect("ERR_FAILED|Failed to fetch dynamically imported module")
    page.route(re.compile(file), lambda route: route.abort())
    page.goto(f"/reviews/{review.id}")
    expect(page.get_by_role("alert")).to_have_text(WORDS)
    page.unroute_all()
    page.get_by_role("link", name="reload it").click()
    expect(page.locator(".tile--here")).to_have_count(1)
    expect(page.get_by_text(WORDS)).to_have_count(0)


def test_a_picture_that_does_not_load_is_no_broken_page(
    page: Page, review: Review, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_FAILED")
    page.route(re.compile("/images/"), lambda route: route.abort())
    open_grid(page, review)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text(WORDS)).to_have_count(0)
