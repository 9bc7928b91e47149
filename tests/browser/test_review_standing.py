"""The state of a review in a real Chromium: unfolded on its pages, always current."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from backend.review import service
from backend.review.queue import shares
from tests.browser.reviewing import open_focus, open_grid
from tests.reviewing import a_ready_review, decide, queue_of

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage, reviewer: User) -> Review:
    """42 suggestions; the reviewer has removed the first 12 and kept the 13 after them."""
    with database.transaction() as session:
        review = a_ready_review(session, storage)
        for row in queue_of(session, review)[:25]:
            decide(
                session, reviewer, review, row.image_id, "remove" if row.position <= 12 else "keep"
            )
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


def test_unfolding_it_again_brings_it_up_to_date(
    page: Page, review: Review, database: Database, owner: User
) -> None:
    open_grid(page, review)
    standing = page.locator("[data-part=standing]")
    standing.locator("summary").click()
    expect(standing.get_by_role("row", name="rita")).to_be_visible()
    with database.transaction() as session:
        decide(session, owner, review, queue_of(session, review)[30].image_id, "keep")
    standing.locator("summary").click()
    standing.locator("summary").click()
    expect(standing.get_by_role("row", name="olga (you)")).to_be_visible()


def test_a_part_is_taken_where_one_reviews_and_the_next_image_stays_in_it(
    page: Page, review: Review, database: Database, reviewer: User, owner: User
) -> None:
    with database.transaction() as session:
        shares.take(session, reviewer, review)
    open_focus(page, review)
    page.locator("[data-part=standing] summary").click()
    page.get_by_role("button", name="Take a part").click()
    page.wait_for_url(f"**/reviews/{review.id}?part={owner.id}")
    expect(page.locator(".tile")).to_have_count(22)
    open_focus(page, review, f"?part={owner.id}")
    # The first 25 are decided; of two people, the first has the pairs 1, 3, 5 …
    expect(page.locator("[data-part=rank]")).to_have_text("26")
    page.keyboard.press("k")
    expect(page.locator("[data-part=rank]")).to_have_text("29")


def test_a_second_opinion_moves_the_counts(page: Page, review: Review, database: Database) -> None:
    with database.transaction() as session:
        service.ask_for_second_opinions(session, session.get_one(Review, review.id), True)
    open_grid(page, review)
    page.get_by_role("link", name="of them for yours").click()
    page.wait_for_url("**?decision=waiting&not_by=*")
    expect(page.locator(".tile")).to_have_count(12)
    page.locator("[data-part=start]").click()
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    waiting, disagreement = (
        page.locator(f"[data-count={name}]") for name in ("waiting", "disagreement")
    )
    expect(waiting).to_have_text("12")
    page.keyboard.press("e")
    expect(waiting).to_have_text("11")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    page.keyboard.press("k")
    expect(waiting).to_have_text("10")
    expect(disagreement).to_have_text("1")


@pytest.mark.parametrize("where", ["", "/standing"])
def test_on_a_telephone_no_column_of_its_tables_is_out_of_sight(
    visit: Callable[..., Page], owner: User, review: Review, where: str
) -> None:
    page = visit(owner, viewport={"width": 360, "height": 740})
    page.goto(f"/reviews/{review.id}{where}")
    if not where:
        page.locator("[data-part=standing] summary").click()
    expect(page.get_by_role("row", name="rita")).to_be_visible()
    tables = page.locator(".standing .table-scroll")
    assert tables.evaluate_all("all => all.map((one) => one.scrollWidth - one.clientWidth)") == [
        0,
        0,
    ]
    for name in ("standing__chart svg", "standing__latest time"):
        box = page.locator(f"tbody .{name}").first.bounding_box()
        assert box is not None
        assert box["width"] > 100
