"""The focus view in a real Chromium: each key, and nothing moves or fires by itself."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import Server, at_rank, open_focus, open_grid, press, said, status
from tests.reviewing import decide, queue_of

pytestmark = pytest.mark.browser


def test_in_focus_e_k_u_and_digits_decide_and_show_the_next(
    page: Page, review: Review, server: Server
) -> None:
    open_focus(page, review)
    labels = [row.label for row in server.queue()]
    at_rank(page, 1)
    for rank, key in (
        (1, "e"),
        (2, "k"),
        (3, "u"),
        (4, str((labels[3] + 1) % 3)),
        (5, str(labels[4])),
    ):
        press(page, key)
        at_rank(page, rank + 1)
    server.wait_for({1: "remove", 2: "keep", 3: "unsure", 4: "relabel", 5: "keep"})
    expect(page.locator("[data-count=decided]")).to_have_text("5")


def test_what_focus_shows_belongs_to_its_image(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "k")
    at_rank(page, 2)
    second = server.queue()[1]
    name = ("left", "middle", "right")[second.label]
    expect(page.locator("[data-part=label-name]")).to_have_text(name)
    expect(page.locator("[data-part=path]")).to_have_text(second.path)
    assert second.content_hash in (page.locator("[data-part=image]").get_attribute("src") or "")
    expect(page.locator("[data-part=decision]")).to_have_text("Not yet decided")
    assert (
        page.locator("[data-part=image]").evaluate(
            "image => getComputedStyle(image).imageRendering"
        )
        == "pixelated"
    )


def test_in_focus_arrows_look_without_deciding(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "ArrowRight")
    at_rank(page, 2)
    press(page, "ArrowLeft")
    at_rank(page, 1)
    press(page, "ArrowLeft")
    expect(status(page)).to_have_text("This is the first image.")
    assert server.decisions() == {}


def test_in_focus_arrows_look_whatever_the_grids_size_is(
    page: Page, review: Review, server: Server
) -> None:
    open_focus(page, review, "?size=50")
    at_rank(page, 1)
    press(page, "ArrowRight")
    at_rank(page, 2)
    press(page, "k")
    at_rank(page, 3)
    server.wait_for({2: "keep"})


def test_in_focus_undo_shows_the_image_again(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "e")
    at_rank(page, 2)
    press(page, "k")
    at_rank(page, 3)
    press(page, "z")
    at_rank(page, 2)
    expect(page.locator("[data-part=decision]")).to_have_text("Not yet decided")
    press(page, "u")
    at_rank(page, 3)
    server.wait_for({1: "remove", 2: "unsure"})


def test_the_address_keeps_the_place(page: Page, review: Review) -> None:
    open_focus(page, review)
    press(page, "e")
    at_rank(page, 2)
    press(page, "ArrowRight")
    at_rank(page, 3)
    expect(page).to_have_url(re.compile(r"\?at=3$"))
    page.reload()
    at_rank(page, 3)


def test_in_focus_the_filters_stay(page: Page, review: Review, server: Server) -> None:
    ranks = [row.position for row in server.queue() if row.label == 2]
    open_focus(page, review, "?label=2")
    at_rank(page, ranks[0])
    press(page, "k")
    at_rank(page, ranks[1])
    press(page, "/")
    page.wait_for_url(re.compile(rf"/reviews/{review.id}\?label=2&after=\d+#filters"))
    expect(page.get_by_label("Order")).to_be_focused()


def test_in_focus_no_key_fires_while_typing_or_in_a_dialog(
    page: Page, review: Review, server: Server
) -> None:
    open_focus(page, review)
    press(page, "l")
    expect(page.get_by_label("It is really")).to_be_focused()
    press(page, "e", "k", "u", "z")
    page.evaluate("document.activeElement.blur()")
    press(page, "?", "e", "k", "2", "Escape")
    at_rank(page, 1)
    assert server.decisions() == {}


def test_when_everything_is_decided_focus_says_so(
    page: Page, review: Review, server: Server, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        for row in queue_of(session, review)[:41]:
            decide(session, owner, review, row.image_id, "keep")
    open_focus(page, review)
    at_rank(page, 42)
    press(page, "e")
    expect(status(page)).to_have_text(re.compile("Every image in this view is decided"))
    server.wait_for(dict.fromkeys(range(1, 42), "keep") | {42: "remove"})


@pytest.mark.parametrize("by", ["z", "Control+z", "button"])
def test_where_everything_is_decided_the_last_act_is_taken_back(
    page: Page, review: Review, server: Server, database: Database, owner: User, by: str
) -> None:
    with database.transaction() as session:
        for row in queue_of(session, review):
            decide(session, owner, review, row.image_id, "keep")
    page.goto(f"/reviews/{review.id}/focus")
    expect(page.get_by_role("heading", name="Every image is decided")).to_be_visible()
    expect(status(page)).to_have_text("All saved")  # its script listens
    if by == "button":
        page.get_by_role("button", name="Undo").click()
    else:
        press(page, by)
    at_rank(page, 42)
    expect(page.locator("[data-part=decision]")).to_have_text("Not yet decided")
    assert server.decisions() == dict.fromkeys(range(1, 42), "keep")


def test_where_everything_is_decided_what_was_taken_together_comes_back_together(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "a")
    expect(said(page)).to_contain_text("All 42 images")
    press(page, "e")
    expect(page.locator("[data-count=decided]")).to_have_text("42")
    page.goto(f"/reviews/{review.id}/focus")
    expect(status(page)).to_have_text("All saved")
    press(page, "z")
    expect(page.locator(".tile--here")).to_have_count(1)
    assert server.decisions() == {}


def test_in_focus_nothing_moves_from_one_image_to_the_next(page: Page, review: Review) -> None:
    open_focus(page, review)
    places = (
        "names => names.map(name => "
        "JSON.stringify(document.querySelector(name).getBoundingClientRect()))"
    )
    parts = [".focus__image", ".focus__decide", ".focus__nav"]
    press(page, "ArrowRight")
    at_rank(page, 2)
    before = page.evaluate(places, parts)
    for rank, key in ((3, "e"), (4, "k"), (5, "u"), (6, "ArrowRight")):
        press(page, key)
        at_rank(page, rank)
        assert page.evaluate(places, parts) == before


# The wanted element is wholly on the screen, and uncovered.
IN_SIGHT = """(nodes) => nodes.filter((node) => {
  const { left, right, top, bottom } = node.getBoundingClientRect();
  const there = [[left + 4, top + 4], [right - 4, bottom - 4]].every(([x, y]) =>
    node.contains(document.elementFromPoint(x, y)));
  return top >= 0 && bottom <= innerHeight && there;
}).length"""
SCREENS = [(1366, 657), (1280, 720), (1920, 1080), (360, 640)]


def in_sight(page: Page, *parts: str) -> bool:
    return int(page.locator(", ".join(parts)).evaluate_all(IN_SIGHT)) == len(parts)


def a_screen(visit: Callable[..., Page], owner: User, width: int, height: int) -> Page:
    telephone = {"has_touch": True, "is_mobile": True} if width < 500 else {}
    return visit(owner, viewport={"width": width, "height": height}, **telephone)


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_undo_and_whether_all_is_saved_are_in_sight_beside_the_buttons(
    visit: Callable[..., Page],
    owner: User,
    review: Review,
    page_errors: PageErrors,
    width: int,
    height: int,
) -> None:
    page_errors.expect("ERR_INTERNET_DISCONNECTED")
    page = a_screen(visit, owner, width, height)
    open_focus(page, review)
    press(page, "k")
    expect(status(page)).to_have_text("All saved")
    assert in_sight(
        page, "[data-part=status]", "button[form=undo]", ".focus__decide", "[data-part=window]"
    )
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    press(page, "e")
    expect(status(page)).to_have_attribute("data-state", "offline")
    assert in_sight(page, "[data-part=status]", "button[form=undo]", ".focus__decide")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert in_sight(page, "[data-part=status]", "button[form=undo]")


@pytest.mark.parametrize(("width", "height"), [(1366, 657), (360, 640)])
def test_that_there_is_no_such_review_any_more_is_in_sight(
    visit: Callable[..., Page],
    owner: User,
    review: Review,
    page_errors: PageErrors,
    width: int,
    height: int,
) -> None:
    page_errors.expect(r"404 \(Not Found\)")
    page = a_screen(visit, owner, width, height)
    open_focus(page, review)
    page.wait_for_load_state("networkidle")
    gone = {"status": 404, "title": "Not found", "detail": "There is no such review."}
    page.route(
        re.compile(f"/api/v1/reviews/{review.id}/"),
        lambda route: route.fulfill(status=404, json=gone),
    )
    for _ in range(14):  # more than are at hand
        press(page, "k")
        expect(status(page)).to_have_text("There is no such review.")
        assert in_sight(page, "[data-part=status]")
