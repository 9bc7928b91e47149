"""The review in a real Chromium: what each key does in the grid and in the focus view, and that nothing moves or fires unasked."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.db import Database
from backend.models import Review, User
from backend.storage import Storage
from tests.browser.reviewing import Server, here, open_focus, open_grid, press, said, selected, status, tile
from tests.reviewing import a_ready_review, decide, queue_of

pytestmark = pytest.mark.browser

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "x" * 300)


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """42 suggestions of the classes left, middle and right."""
    with database.transaction() as session:
        return a_ready_review(session, storage)


@pytest.fixture
def server(database: Database, review: Review) -> Server:
    return Server(database, review)


# ── the grid ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_e_k_and_u_decide_at_once_and_go_to_the_next_undecided(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    assert here(page) == 1
    for rank, key, words in ((1, "e", "Remove"), (2, "k", "Keep"), (3, "u", "Unsure")):
        press(page, key)
        assert tile(page, rank).locator(".tile__decision").inner_text() == words
        assert here(page) == rank + 1
    server.wait_for({1: "remove", 2: "keep", 3: "unsure"})
    expect(status(page)).to_have_text("All saved")
    expect(page.locator("[data-count=decided]")).to_have_text("3")


def test_the_next_undecided_skips_what_is_decided_and_begins_again_at_the_start(page: Page, review: Review, server: Server) -> None:
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


def test_digits_relabel_and_the_label_it_has_already_keeps_it(page: Page, review: Review, server: Server) -> None:
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
    columns = page.locator(".tiles").evaluate("list => getComputedStyle(list).gridTemplateColumns.split(' ').length")
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


def test_a_selection_is_decided_and_undone_as_one(page: Page, review: Review, server: Server) -> None:
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


def test_a_selects_the_whole_view_beyond_the_page(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review, "?size=25")
    expect(page.locator(".tile")).to_have_count(25)
    press(page, "a")
    expect(said(page)).to_have_text("All 42 images not yet decided in this view selected, on every page")
    press(page, "e")
    server.wait_for(dict.fromkeys(range(1, 43), "remove"))
    expect(page.locator('.tile[data-decision="remove"]')).to_have_count(25)
    expect(status(page)).to_have_text("42 images decided. Undo takes them back together.")
    press(page, "Control+z")
    server.wait_for({})
    expect(page.locator('.tile[data-decision=""]')).to_have_count(25)


def test_a_counts_the_view_anew_and_keeps_to_its_filters(
    page: Page, review: Review, server: Server, database: Database, reviewer: User
) -> None:
    open_grid(page, review, "?label=1&size=25")
    ranks = [row.position for row in server.queue() if row.label == 1]
    press(page, "e")
    with database.transaction() as session:
        decide(session, reviewer, review, server.queue()[ranks[5] - 1].image_id, "keep")
    press(page, "a")
    expect(said(page)).to_have_text("All 12 images not yet decided in this view selected, on every page")
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
    expect(status(page)).to_have_text("41 images decided. Undo takes them back together. 1 stayed: somebody decided since.")
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


def test_question_mark_shows_the_keys_and_slash_goes_to_the_filters(page: Page, review: Review) -> None:
    open_grid(page, review)
    press(page, "?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    press(page, "/")
    expect(page.get_by_label("Order")).to_be_focused()


def test_l_leads_to_the_list_of_labels_and_enter_gives_one(page: Page, review: Review, server: Server) -> None:
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
def test_a_key_with_a_modifier_is_the_browsers(page: Page, review: Review, server: Server, keys: list[str]) -> None:
    open_grid(page, review)
    press(page, *keys)
    expect(tile(page, 1)).to_have_attribute("data-decision", "")
    assert (server.decisions(), selected(page)) == ({}, [])


def test_no_key_fires_while_typing_or_in_a_dialog(page: Page, review: Review, server: Server) -> None:
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


def test_nothing_is_decided_that_is_out_of_sight(page: Page, review: Review, server: Server) -> None:
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


# What the browser itself calls a layout shift, by the class of what moved.
WATCH_SHIFTS = """() => {
  globalThis.moved = [];
  const name = ({ node }) => node?.className ?? node?.parentElement?.className ?? "gone";
  const note = (list) => moved.push(...list.getEntries().flatMap((entry) => entry.sources.map(name)));
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
    # The server chooses where to go on, from what it knows: the first reload may have come before the second decision.
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


# ── one image, large ────────────────────────────────────────────────────────────────────────────────────────────────


def at_rank(page: Page, rank: int) -> None:
    expect(page.locator("[data-part=rank]")).to_have_text(str(rank))


def test_in_focus_e_k_u_and_digits_decide_and_show_the_next(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    labels = [row.label for row in server.queue()]
    at_rank(page, 1)
    for rank, key in ((1, "e"), (2, "k"), (3, "u"), (4, str((labels[3] + 1) % 3)), (5, str(labels[4]))):
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
    assert page.locator("[data-part=image]").evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"


def test_in_focus_arrows_look_without_deciding(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "ArrowRight")
    at_rank(page, 2)
    press(page, "ArrowLeft")
    at_rank(page, 1)
    press(page, "ArrowLeft")
    expect(status(page)).to_have_text("This is the first one.")
    assert server.decisions() == {}


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
    assert page.url.endswith("?at=3")
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


def test_in_focus_no_key_fires_while_typing_or_in_a_dialog(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    press(page, "l")
    expect(page.get_by_label("It is really")).to_be_focused()
    press(page, "e", "k", "u", "z")
    page.evaluate("document.activeElement.blur()")
    press(page, "?", "e", "k", "2", "Escape")
    at_rank(page, 1)
    assert server.decisions() == {}


def test_when_everything_is_decided_focus_says_so(page: Page, review: Review, server: Server, database: Database, owner: User) -> None:
    with database.transaction() as session:
        for row in queue_of(session, review)[:41]:
            decide(session, owner, review, row.image_id, "keep")
    open_focus(page, review)
    at_rank(page, 42)
    press(page, "e")
    expect(status(page)).to_have_text(re.compile("Every image in this view is decided"))
    server.wait_for(dict.fromkeys(range(1, 42), "keep") | {42: "remove"})


def test_in_focus_nothing_moves_from_one_image_to_the_next(page: Page, review: Review) -> None:
    open_focus(page, review)
    places = "names => names.map(name => JSON.stringify(document.querySelector(name).getBoundingClientRect()))"
    parts = [".focus__image", ".focus__decide", ".focus__nav"]
    press(page, "ArrowRight")
    at_rank(page, 2)
    before = page.evaluate(places, parts)
    for rank, key in ((3, "e"), (4, "k"), (5, "u"), (6, "ArrowRight")):
        press(page, key)
        at_rank(page, rank)
        assert page.evaluate(places, parts) == before


# ── names, sizes, colours, no scripts ───────────────────────────────────────────────────────────────────────────────


def test_hostile_class_names_are_shown_as_text(page: Page, database: Database, storage: Storage, owner: User) -> None:
    with database.transaction() as session:
        review = a_ready_review(session, storage, name=HOSTILE[0], class_names=HOSTILE, per_class=6, side=32)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    labels = [row.label for row in Server(database, review).queue()]
    open_grid(page, review)
    press(page, str((labels[0] + 1) % 4))
    expect(tile(page, 1).locator(".tile__decision")).to_have_text(f"Now: {HOSTILE[(labels[0] + 1) % 4]}")
    Server(database, review).wait_for({1: "relabel"})
    open_focus(page, review)
    for rank in (3, 4, 5):
        press(page, "ArrowRight")
        at_rank(page, rank)
        expect(page.locator("[data-part=label-name]")).to_have_text(HOSTILE[labels[rank - 1]])
    press(page, str((labels[4] + 1) % 4))
    at_rank(page, 6)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_is_wider_than_the_screen(
    visit: Callable[..., Page], owner: User, database: Database, storage: Storage, width: int
) -> None:
    with database.transaction() as session:
        hostile = a_ready_review(session, storage, name="x" * 200, class_names=HOSTILE, per_class=6, side=32)
    page = visit(owner, viewport={"width": width, "height": 740})
    for path in ("", "?label=1", "/focus", "/confusion", "?decision=remove"):
        page.goto(f"/reviews/{hostile.id}{path}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    open_focus(page, hostile)
    page.evaluate("document.querySelector('[data-part=keys]').showModal()")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_finger_finds_every_button_on_a_small_screen(visit: Callable[..., Page], owner: User, review: Review, server: Server) -> None:
    page = visit(owner, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    open_grid(page, review)
    tile(page, 2).locator("input").tap()
    for name in ("Remove", "Keep", "Unsure", "Relabel"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 40, name
        assert 0 <= box["y"] <= 740 - box["height"], name
    page.get_by_role("button", name="Remove").tap()
    server.wait_for({2: "remove"})
    open_focus(page, review)
    page.get_by_role("button", name="Keep").tap()
    at_rank(page, 3)
    server.wait_for({1: "keep", 2: "remove"})


# Selector → contrast between its words and the ground behind them (WCAG 2).
CONTRAST = """(selectors) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [red, green, blue] = rgba(colour).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (node) => {
    const colour = node ? getComputedStyle(node).backgroundColor : "white";
    return rgba(colour)[3] > 250 ? colour : ground(node.parentElement);
  };
  return Object.fromEntries(selectors.map((name) => {
    const node = document.querySelector(name);
    const [more, less] = [light(getComputedStyle(node).color), light(ground(node))].sort((one, other) => other - one);
    return [name, (more + 0.05) / (less + 0.05)];
  }));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(visit: Callable[..., Page], owner: User, review: Review, scheme: str) -> None:
    page = visit(owner, color_scheme=scheme)
    open_grid(page, review)
    press(page, "e", "k", "u", "1", "2")
    expect(status(page)).to_have_text("All saved")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(int(part) for part in re.findall(r"\d+", ground)[:3]) < 200) == (scheme == "dark")
    names = [".tile__label", ".tile__brought", ".tile__rank", ".decide--remove", ".decide--keep", ".decide--unsure", ".decide--relabel"]
    names += [f'.tile[data-decision="{action}"] .tile__decision' for action in ("remove", "keep", "unsure")]
    names += [".review-status", ".review-bar__say", ".review-progress__advice", ".review-filters__item"]
    found = page.evaluate(CONTRAST, names)
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_without_scripts_plain_forms_decide(visit: Callable[..., Page], owner: User, review: Review, server: Server) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"/reviews/{review.id}")
    page.get_by_label("Select rank 3", exact=True).check(force=True)
    page.locator("#decide").get_by_role("button", name=re.compile("^Remove")).click()
    server.wait_for({3: "remove"})
    page.get_by_role("link", name="Go on, one by one").click()
    page.get_by_role("button", name=re.compile("^Keep")).click()
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    server.wait_for({1: "keep", 3: "remove"})
    page.get_by_role("button", name=re.compile("^Undo")).click()
    server.wait_for({3: "remove"})
