"""The grid in a real Chromium: each key, and nothing moves or fires by itself."""

import re

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from tests.browser.reviewing import Server, here, open_grid, press, said, selected, status, tile
from tests.reviewing import decide

pytestmark = pytest.mark.browser


def test_e_k_and_u_decide_at_once_and_go_to_the_next_undecided(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    assert here(page) == 1
    for rank, key, words in ((1, "e", "Remove"), (2, "k", "Keep"), (3, "u", "Unsure")):
        press(page, key)
        assert tile(page, rank).locator(".tile__decision").inner_text() == words
        assert here(page) == rank + 1
    server.wait_for({1: "remove", 2: "keep", 3: "unsure"})
    expect(status(page)).to_have_text("All saved")
    expect(page.locator("[data-count=decided]")).to_have_text("3")


def test_the_next_undecided_skips_what_is_decided_and_begins_again_at_the_start(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "ArrowRight", "e")
    assert here(page) == 3
    press(page, "ArrowLeft", "ArrowLeft", "k")
    assert here(page) == 3
    for _ in range(39):
        press(page, "ArrowRight")
    assert here(page) == 42
    press(page, "u")
    assert here(page) == 3
    server.wait_for({1: "keep", 2: "remove", 42: "unsure"})


def test_digits_relabel_and_the_label_it_has_already_keeps_it(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    first, second = (row.label for row in server.queue()[:2])
    names = ("left", "middle", "right")
    other = (first + 1) % 3
    press(page, str(other))
    expect(tile(page, 1).locator(".tile__decision")).to_have_text(f"Now: {names[other]}")
    press(page, str(second))
    expect(tile(page, 2).locator(".tile__decision")).to_have_text("Keep")
    press(page, "7")
    expect(status(page)).to_have_text("Choose the label first.")
    server.wait_for({1: "relabel", 2: "keep"})
    assert server.queue()[0].decision_label == other


def test_arrows_only_navigate(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    columns = page.locator(".tiles").evaluate(
        "list => getComputedStyle(list).gridTemplateColumns.split(' ').length"
    )
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert here(page) == 2
    press(page, "ArrowDown")
    assert here(page) == 2 + columns
    press(page, "ArrowUp", "ArrowUp")
    assert here(page) == 2
    assert page.evaluate("document.activeElement.closest('.tile')?.dataset.rank") == "2"
    assert selected(page) == []
    assert server.decisions() == {}


def test_space_selects_and_shift_extends_or_shortens(page: Page, review: Review) -> None:
    open_grid(page, review)
    press(page, "Space", "ArrowRight", "ArrowRight", "Space")
    assert selected(page) == [1, 3]
    press(page, "Shift+ArrowRight", "Shift+ArrowRight")
    assert selected(page) == [1, 3, 4, 5]
    press(page, "Shift+ArrowLeft")
    assert selected(page) == [1, 3, 4]
    expect(said(page)).to_have_text("3 images selected")
    press(page, "Space")
    assert selected(page) == [1, 3]
    press(page, "Escape")
    assert selected(page) == []
    expect(said(page)).to_have_text("42 images")


def test_a_selection_is_decided_and_undone_as_one(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "Space", "Shift+ArrowRight", "Shift+ArrowRight", "e")
    server.wait_for({1: "remove", 2: "remove", 3: "remove"})
    expect(status(page)).to_have_text("3 images decided. Undo takes them back together.")
    assert (selected(page), here(page)) == ([], 4)
    press(page, "z")
    server.wait_for({})
    expect(tile(page, 2)).to_have_attribute("data-decision", "")
    expect(status(page)).to_have_text("Taken back: 3 images.")
    assert here(page) == 1


def test_a_selects_the_whole_view_beyond_the_page(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review, "?size=25")
    expect(page.locator(".tile")).to_have_count(25)
    press(page, "a")
    expect(said(page)).to_have_text(
        "All 42 images not yet decided in this view selected, on every page"
    )
    press(page, "e")
    question = page.get_by_role(
        "dialog", name="Remove 42 images, from all 2 pages of this view? Undo takes them back"
    )
    expect(question).to_be_visible()
    press(page, "k", "u")  # decide nothing meanwhile
    assert server.decisions() == {}
    press(page, "Enter")
    server.wait_for(dict.fromkeys(range(1, 43), "remove"))
    expect(page.locator('.tile[data-decision="remove"]')).to_have_count(25)
    expect(status(page)).to_have_text("42 images decided. Undo takes them back together.")
    press(page, "Control+z")
    server.wait_for({})
    expect(page.locator('.tile[data-decision=""]')).to_have_count(25)


@pytest.mark.parametrize(
    ("key", "question"),
    [
        ("k", "Keep 42 images as they are, from"),
        ("u", "Mark 42 images as unsure, from"),
        ("2", "Give 42 images the label “right”, from"),
    ],
)
@pytest.mark.parametrize("size", ["25", "all"])
def test_a_view_beyond_the_page_is_not_decided_without_a_yes(
    page: Page, review: Review, server: Server, key: str, question: str, size: str
) -> None:
    if size == "all":
        question = question.replace("from", "also those further down")
    open_grid(page, review, f"?size={size}")
    if size == "all":  # as if some were not loaded yet
        page.locator(".tile").last.evaluate("tile => { tile.dataset.decision = 'keep'; }")
    press(page, "a")
    expect(said(page)).to_have_text(re.compile("All 42 images"))
    press(page, key)
    expect(page.get_by_role("dialog", name=question)).to_be_visible()
    press(page, "Escape")
    expect(status(page)).to_have_text("Nothing was decided.")
    assert (selected(page), server.decisions()) == ([], {})
    press(page, "e")
    server.wait_for({1: "remove"})


def test_esc_in_the_filters_gives_the_keys_back(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    press(page, "/")
    expect(page.get_by_label("Order")).to_be_focused()
    press(page, "Escape", "ArrowRight", "k")
    assert page.get_by_label("Order").input_value() == "queue"
    server.wait_for({2: "keep"})
    page.get_by_text("More filters").click()
    page.get_by_label("at least, in percent").first.click()
    press(page, "5", "Escape", "e")
    server.wait_for({2: "keep", 3: "remove"})


def test_a_counts_the_view_anew_and_keeps_to_its_filters(
    page: Page, review: Review, server: Server, database: Database, reviewer: User
) -> None:
    open_grid(page, review, "?label=1&size=25")
    ranks = [row.position for row in server.queue() if row.label == 1]
    press(page, "e")
    with database.transaction() as session:
        decide(session, reviewer, review, server.queue()[ranks[5] - 1].image_id, "keep")
    press(page, "a")
    expect(said(page)).to_have_text(
        "All 12 images not yet decided in this view selected, on every page"
    )
    press(page, "u")
    server.wait_for(dict.fromkeys(ranks, "unsure") | {ranks[0]: "remove", ranks[5]: "keep"})


def test_a_view_is_decided_without_what_another_decided_after_it_was_counted(
    page: Page, review: Review, server: Server, database: Database, reviewer: User
) -> None:
    open_grid(page, review)
    press(page, "a")
    expect(said(page)).to_have_text(re.compile("All 42 images"))
    with database.transaction() as session:
        decide(session, reviewer, review, server.queue()[3].image_id, "keep")
    press(page, "e")
    expect(status(page)).to_have_text(
        "41 images decided. Undo takes them back together. 1 stayed: someone decided since."
    )
    assert server.decisions() == {**dict.fromkeys(range(1, 43), "remove"), 4: "keep"}


def test_touching_one_tile_ends_the_whole_view(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review, "?size=25")
    press(page, "a")
    expect(said(page)).to_have_text(re.compile("All 42 images"))
    tile(page, 2).locator("input").click()
    expect(said(page)).to_have_text("24 images selected")
    press(page, "Escape", "k")
    server.wait_for({2: "keep"})


def test_enter_opens_the_image_and_back_leads_to_where_one_was(page: Page, review: Review) -> None:
    open_grid(page, review)
    press(page, "ArrowRight", "ArrowRight", "Enter")
    page.wait_for_url("**/focus?at=3")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    press(page, "Escape")
    page.wait_for_url(f"**/reviews/{review.id}?after=2")
    expect(tile(page, 3)).to_have_class(re.compile("tile--here"))


def test_question_mark_shows_the_keys_and_slash_goes_to_the_filters(
    page: Page, review: Review
) -> None:
    open_grid(page, review)
    press(page, "?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "/")
    expect(page.get_by_label("Order")).to_be_focused()


def test_l_leads_to_the_list_of_labels_and_enter_gives_one(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    to = (server.queue()[0].label + 1) % 3
    press(page, "l")
    expect(page.get_by_label("New label", exact=True)).to_be_focused()
    page.get_by_label("New label", exact=True).select_option(str(to))
    press(page, "Enter")
    server.wait_for({1: "relabel"})
    press(page, "e")
    server.wait_for({1: "relabel", 2: "remove"})


@pytest.mark.parametrize("keys", [["Control+e"], ["Alt+k"], ["Meta+u"], ["Control+a"]])
def test_a_key_with_a_modifier_is_the_browsers(
    page: Page, review: Review, server: Server, keys: list[str]
) -> None:
    open_grid(page, review)
    press(page, *keys)
    expect(tile(page, 1)).to_have_attribute("data-decision", "")
    assert (server.decisions(), selected(page)) == ({}, [])


def test_no_key_fires_while_typing_or_in_a_dialog(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review, "?size=25")
    everything = ("e", "k", "u", "1", "a", "z", "ArrowRight", "Shift+ArrowRight")
    page.get_by_label("Go to rank").focus()
    press(page, *everything)
    page.get_by_label("Order").focus()
    press(page, "e", "k", "u")
    page.evaluate("document.activeElement.blur()")
    press(page, "?", *everything)
    press(page, "Escape")
    assert (here(page), selected(page), server.decisions()) == (1, [], {})
    press(page, "k")
    server.wait_for({1: "keep"})


def test_a_held_key_decides_once(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    for _ in range(5):
        page.keyboard.down("e")
    page.keyboard.up("e")
    server.wait_for({1: "remove"})
    assert here(page) == 2


def test_nothing_is_decided_that_is_out_of_sight(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review, "?size=50")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(tile(page, 1)).not_to_be_in_viewport()
    press(page, "e")
    expect(status(page)).to_have_text("You are here. Press again to decide on this image.")
    expect(tile(page, 1)).to_be_in_viewport()
    assert server.decisions() == {}
    press(page, "e")
    server.wait_for({1: "remove"})


def test_the_mouse_can_do_all_of_it(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    tile(page, 2).hover()
    tile(page, 2).locator("input").click()
    tile(page, 5).locator(".tile__link").click(modifiers=["Shift"])
    assert selected(page) == [2, 3, 4, 5]
    page.locator("#decide").get_by_role("button", name=re.compile("^Keep")).click()
    server.wait_for(dict.fromkeys((2, 3, 4, 5), "keep"))
    page.get_by_label("Which images").select_option("view")
    expect(said(page)).to_have_text(re.compile("All 38 images"))
    page.locator("#decide").get_by_role("button", name=re.compile("^Unsure")).click()
    server.wait_for({rank: "keep" if 2 <= rank <= 5 else "unsure" for rank in range(1, 43)})
    page.get_by_role("button", name=re.compile("^Undo")).click()
    server.wait_for(dict.fromkeys((2, 3, 4, 5), "keep"))


def test_the_end_of_a_page_leads_to_the_next(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review, "?size=25")
    press(page, "Space")
    for _ in range(24):
        press(page, "Shift+ArrowRight")
    press(page, "k")
    expect(page.get_by_role("link", name="Next")).to_be_focused()
    server.wait_for(dict.fromkeys(range(1, 26), "keep"))
    press(page, "Enter")
    expect(tile(page, 26)).to_have_class(re.compile("tile--here"))


# The browser's own layout shifts, by class of the moved element.
WATCH_SHIFTS = """() => {
  globalThis.moved = [];
  const name = ({ node }) => node?.className ?? node?.parentElement?.className ?? "gone";
  const note = (list) => moved.push(...list.getEntries().flatMap((entry) =>
    entry.sources.map(name)));
  new PerformanceObserver(note).observe({ type: "layout-shift" });
}"""


def test_a_decision_moves_nothing(page: Page, review: Review) -> None:
    open_grid(page, review)
    page.wait_for_load_state("networkidle")
    page.evaluate(WATCH_SHIFTS)
    boxes = "tiles => tiles.map(tile => JSON.stringify(tile.getBoundingClientRect()))"
    before = page.locator(".tile").evaluate_all(boxes)
    press(page, "e", "k", "u", "1", "2")
    expect(status(page)).to_have_text("All saved")
    assert page.locator(".tile").evaluate_all(boxes) == before
    assert page.evaluate("moved") == []


def test_the_size_is_kept(page: Page, review: Review) -> None:
    open_grid(page, review)
    page.get_by_label("Size of the images").fill("200")
    width = tile(page, 1).bounding_box()["width"]
    assert width >= 200
    page.reload()
    expect(page.locator(".tile--here")).to_have_count(1)
    assert tile(page, 1).bounding_box()["width"] == width


def test_decisions_survive_a_reload(page: Page, review: Review) -> None:
    open_grid(page, review)
    press(page, "e", "k")
    page.reload()
    expect(tile(page, 1).locator(".tile__decision")).to_have_text("Remove")
    expect(tile(page, 2).locator(".tile__decision")).to_have_text("Keep")
    # The first reload may precede the second decision: the server then chooses the place.
    expect(status(page)).to_have_text("All saved")
    page.reload()
    expect(tile(page, 3)).to_have_class(re.compile("tile--here"))


def test_undo_reaches_back_over_a_reload(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    press(page, "e", "k")
    server.wait_for({1: "remove", 2: "keep"})
    page.reload()
    expect(page.locator(".tile--here")).to_have_count(1)
    press(page, "z")
    server.wait_for({1: "remove"})
    press(page, "z")
    server.wait_for({})
