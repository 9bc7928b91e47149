"""A scrolling view of thousands of tiles: only near tiles are in the page, none is lost."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import Server, here, open_grid, press, said, status, tile, until
from tests.reviewing import a_ready_review

pytestmark = pytest.mark.browser

COUNT = 210
RANKS = "tiles => tiles.map(tile => Number(tile.dataset.rank))"

# The address names the row that the top of the window cuts.
FIRST_IN_SIGHT = """(() => {
  const after = Number(new URLSearchParams(location.search).get("after"));
  const box = document.querySelector(`.tile[data-rank="${after + 1}"]`)?.getBoundingClientRect();
  return box && box.bottom > 0 && box.top < 10;
})()"""


@pytest.fixture
def review(database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Review:
    """210 suggestions, fetched forty at a time."""
    monkeypatch.setattr("backend.review.queue.view_state.STEP", 40)
    with database.transaction() as session:
        review = a_ready_review(session, storage, per_class=100)
        assert review.suggestion_count == COUNT
        return review


def small_tiles(page: Page) -> None:
    page.set_viewport_size({"width": 900, "height": 700})
    page.evaluate("localStorage.setItem('winnow:tile-size', '120')")


def to_the_end(page: Page) -> None:
    """Scroll until the last tile is there."""
    while page.locator(f'.tile[data-rank="{COUNT}"]').count() == 0:
        before = page.evaluate("document.documentElement.scrollHeight")
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        until(
            page,
            f"document.documentElement.scrollHeight > {before} || "
            f"document.querySelector('.tile[data-rank=\"{COUNT}\"]')",
        )


def ranks(page: Page) -> list[int]:
    return [int(rank) for rank in page.locator(".tile").evaluate_all(RANKS)]


def test_scrolling_brings_all_and_keeps_only_what_is_near_in_the_page(
    page: Page, review: Review
) -> None:
    small_tiles(page)
    open_grid(page, review, "?size=all")
    to_the_end(page)
    shown = ranks(page)
    assert shown == list(range(shown[0], COUNT + 1))
    assert 0 < len(shown) < COUNT / 2
    expect(page.get_by_role("link", name="Next")).to_have_count(0)
    expect(page.locator(".review-pages")).to_contain_text("Ranks 1–210 of 210")
    page.evaluate("scrollTo(0, 0)")
    expect(tile(page, 1)).to_be_in_viewport()
    assert ranks(page)[0] == 1
    assert COUNT not in ranks(page)


def test_nothing_jumps_while_tiles_come_and_go(page: Page, review: Review) -> None:
    small_tiles(page)
    open_grid(page, review, "?size=all")
    to_the_end(page)
    height = page.evaluate("document.documentElement.scrollHeight")
    for y in (2000, 900, 2500, 0):
        page.evaluate(f"scrollTo(0, {y})")
        page.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        assert page.evaluate("[scrollY, document.documentElement.scrollHeight]") == [y, height]
        assert page.locator(".tile").evaluate_all(
            "tiles => tiles.some(tile => { const box = tile.getBoundingClientRect(); return "
            "box.top < innerHeight && box.bottom > 0; })"
        )


def test_deciding_goes_on_through_all_of_them(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review, "?size=all")
    for number in range(90):
        expect(page.locator(".tile--here")).to_have_attribute("data-rank", str(number + 1))
        press(page, "ek"[number % 2])
    server.wait_for({number + 1: ("remove", "keep")[number % 2] for number in range(90)})
    page.evaluate("scrollTo(0, 0)")
    expect(tile(page, 1)).to_have_attribute("data-decision", "remove")
    press(page, "z")
    server.wait_for(89, lambda there: len(there.decisions()))
    assert here(page) == 90


def test_a_selection_reaches_over_tiles_that_have_left_the_page(
    page: Page, review: Review, server: Server
) -> None:
    small_tiles(page)
    open_grid(page, review, "?size=all")
    press(page, "Space")
    to_the_end(page)
    expect(tile(page, 1)).to_have_count(0)
    tile(page, 200).locator(".tile__link").click(modifiers=["Shift"])
    expect(said(page)).to_have_text("200 images selected")
    press(page, "u")
    server.wait_for(dict.fromkeys(range(1, 201), "unsure"))
    expect(status(page)).to_have_text("200 images decided. Undo takes them back together.")
    page.evaluate("scrollTo(0, 0)")
    expect(tile(page, 1)).to_have_attribute("data-decision", "unsure")


def test_a_cursor_that_has_left_the_page_is_shown_before_it_decides(
    page: Page, review: Review, server: Server
) -> None:
    small_tiles(page)
    open_grid(page, review, "?size=all")
    to_the_end(page)
    expect(page.locator(".tile--here")).to_have_count(0)
    press(page, "e")
    expect(status(page)).to_have_text("You are here. Press again to decide on this image.")
    expect(tile(page, 1)).to_be_in_viewport()
    press(page, "e")
    server.wait_for({1: "remove"})


def test_a_reload_leads_to_where_one_was_and_the_ones_before_are_a_link_away(
    page: Page, review: Review
) -> None:
    small_tiles(page)
    open_grid(page, review, "?size=all")
    to_the_end(page)
    page.evaluate("scrollTo(0, 2000)")
    until(page, FIRST_IN_SIGHT)
    after = int(page.url.split("after=")[1])
    page.reload()
    expect(tile(page, after + 1)).to_have_count(1)
    page.get_by_role("link", name=f"Show those before rank {after + 1}").click()
    expect(tile(page, after)).to_have_count(1)


def test_without_a_network_the_rest_comes_when_it_is_back(
    page: Page, review: Review, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_FAILED")
    small_tiles(page)
    page.route(re.compile("after="), lambda route: route.abort())
    open_grid(page, review, "?size=all")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(status(page)).to_have_text(
        "More images cannot be loaded now. They come when the connection is back."
    )
    page.unroute_all()
    expect(page.locator("[data-part=last-rank]")).not_to_have_text("40")


def test_another_size_of_the_tiles_keeps_them_all(page: Page, review: Review) -> None:
    open_grid(page, review, "?size=all")
    to_the_end(page)
    page.evaluate("scrollTo(0, 0)")
    page.get_by_label("Size of the images").fill("72")
    page.set_viewport_size({"width": 1000, "height": 900})
    expect(tile(page, 100)).to_have_count(1)
    shown = ranks(page)
    assert shown == list(range(1, shown[-1] + 1))


def test_without_scripts_the_view_leafs(
    visit: Callable[..., Page], owner: User, review: Review
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"/reviews/{review.id}?size=all")
    expect(page.locator(".tile")).to_have_count(40)
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".tile").first).to_have_attribute("data-rank", "41")
    page.goto(f"/reviews/{review.id}?size=all&after=100000")
    expect(page.locator(".tile").last).to_have_attribute("data-rank", str(COUNT))
