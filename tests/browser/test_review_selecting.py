"""Selecting many: a range by Shift and click, and a band drawn with the mouse."""

import pytest
from playwright.sync_api import Page, expect

from backend.core.models import Review
from tests.browser.reviewing import Server, open_grid, press, said, selected, tile

pytestmark = pytest.mark.browser


def columns(page: Page) -> int:
    return int(
        page.locator(".tiles").evaluate(
            "list => getComputedStyle(list).gridTemplateColumns.split(' ').length"
        )
    )


def middle(page: Page, rank: int) -> tuple[float, float]:
    box = tile(page, rank).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def draw(page: Page, start: int, end: int, *, let_go: bool = True) -> None:
    """A band from the middle of one tile to the middle of another."""
    page.mouse.move(*middle(page, start))
    page.mouse.down()
    page.mouse.move(*middle(page, end), steps=6)
    if let_go:
        page.mouse.up()


def test_shift_and_click_select_from_the_last_tile_touched(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    tile(page, 2).locator("input").click()
    tile(page, 6).locator(".tile__link").click(modifiers=["Shift"])
    assert selected(page) == [2, 3, 4, 5, 6]
    tile(page, 4).locator("input").click(modifiers=["Shift"])
    assert selected(page) == [2, 3, 4]
    press(page, "k")
    server.wait_for(dict.fromkeys((2, 3, 4), "keep"))


@pytest.mark.parametrize(("first", "last"), [(2, 6), (6, 2)])
@pytest.mark.parametrize("place", ["input", "label"])
def test_shift_and_click_on_a_box_tick_every_tile_of_the_range(
    page: Page, review: Review, server: Server, first: int, last: int, place: str
) -> None:
    open_grid(page, review)
    tile(page, first).locator("input").click()
    spot = {"x": 3, "y": 40} if place == "label" else None  # next to the box
    tile(page, last).locator(place).click(modifiers=["Shift"], position=spot)
    expect(said(page)).to_have_text("5 images selected")
    assert selected(page) == [2, 3, 4, 5, 6]
    # The range still begins where it began.
    tile(page, 4).locator("input").click(modifiers=["Shift"])
    assert selected(page) == list(range(min(first, 4), max(first, 4) + 1))
    tile(page, last).locator("input").click(modifiers=["Shift"])
    press(page, "k")
    server.wait_for(dict.fromkeys(range(2, 7), "keep"))


def test_a_band_selects_what_it_touches_and_opens_nothing(
    page: Page, review: Review, server: Server
) -> None:
    page.set_viewport_size(
        {"width": 1280, "height": 1000}
    )  # two rows of tiles, away from the edges where the page scrolls along
    open_grid(page, review)
    across = columns(page)
    draw(page, 2, across + 4)
    expected = [2, 3, 4, across + 2, across + 3, across + 4]
    expect(said(page)).to_have_text("6 images selected")
    assert selected(page) == expected
    expect(page.locator(".tiles__band")).to_have_count(0)
    assert page.url.endswith(f"/reviews/{review.id}")
    press(page, "e")
    server.wait_for(dict.fromkeys(expected, "remove"))


def test_a_band_begins_anew_and_with_shift_it_adds(page: Page, review: Review) -> None:
    open_grid(page, review)
    draw(page, 1, 2)
    draw(page, 4, 5)
    assert selected(page) == [4, 5]
    page.keyboard.down("Shift")
    draw(page, 1, 2)
    page.keyboard.up("Shift")
    assert selected(page) == [1, 2, 4, 5]


def test_a_band_that_shrinks_lets_go_and_esc_takes_it_away(page: Page, review: Review) -> None:
    open_grid(page, review)
    tile(page, 7).locator("input").click()
    draw(page, 1, 3, let_go=False)
    expect(said(page)).to_have_text("3 images selected")
    page.mouse.move(*middle(page, 2))
    expect(said(page)).to_have_text("2 images selected")
    press(page, "Escape")
    assert selected(page) == [7]
    page.mouse.up()
    assert selected(page) == [7]


def test_a_band_may_begin_on_a_box_and_ticks_it_like_the_others(page: Page, review: Review) -> None:
    open_grid(page, review)
    box = tile(page, 2).locator("input").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(*middle(page, 3), steps=6)
    page.mouse.up()
    assert selected(page) == [2, 3]


def test_a_click_without_a_band_still_opens_the_image(page: Page, review: Review) -> None:
    open_grid(page, review)
    draw(page, 1, 2)
    tile(page, 3).locator(".tile__link").click()
    page.wait_for_url("**/focus?at=3")


def test_at_the_windows_edge_the_page_scrolls_along(page: Page, review: Review) -> None:
    page.set_viewport_size({"width": 900, "height": 800})
    open_grid(page, review)
    page.mouse.move(*middle(page, 1))
    page.mouse.down()
    page.mouse.move(850, 795, steps=4)
    expect(said(page)).to_have_text("42 images selected")
    page.mouse.up()
