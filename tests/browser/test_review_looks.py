"""The review's pages whatever the names, the screen, the colours, and without scripts."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from tests.browser.reviewing import Server, at_rank, open_focus, open_grid, press, status, tile
from tests.reviewing import a_ready_review

pytestmark = pytest.mark.browser


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "x" * 300)


def test_hostile_class_names_are_shown_as_text(
    page: Page, database: Database, storage: Storage, owner: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(
            session, storage, name=HOSTILE[0], class_names=HOSTILE, per_class=6, side=32
        )
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    labels = [row.label for row in Server(database, review).queue()]
    open_grid(page, review)
    press(page, str((labels[0] + 1) % 4))
    expect(tile(page, 1).locator(".tile__decision")).to_have_text(
        f"Now: {HOSTILE[(labels[0] + 1) % 4]}"
    )
    Server(database, review).wait_for({1: "relabel"})
    open_focus(page, review)
    for rank in (3, 4, 5):
        press(page, "ArrowRight")
        at_rank(page, rank)
        expect(page.locator("[data-part=label-name]")).to_have_text(HOSTILE[labels[rank - 1]])
    press(page, str((labels[4] + 1) % 4))
    at_rank(page, 6)


def test_no_page_is_wider_than_the_screen(
    visit: Callable[..., Page], owner: User, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        hostile = a_ready_review(
            session, storage, name="x" * 200, class_names=HOSTILE, per_class=6, side=32
        )
    page = visit(owner)
    for path in ("", "?label=1", "/focus", "/confusion", "?decision=remove"):
        page.goto(f"/reviews/{hostile.id}{path}")
        page.wait_for_load_state("networkidle")
        assert_it_fits(page)
    open_focus(page, hostile)
    page.evaluate("document.querySelector('[data-part=keys]').showModal()")
    assert_it_fits(page)


def assert_it_fits(page: Page) -> None:
    for width in (1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (page.url, width)


def test_a_finger_finds_every_button_on_a_small_screen(
    visit: Callable[..., Page], owner: User, review: Review, server: Server
) -> None:
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


# The width of a menu, and the width that its longest choice needs.
WIDTHS = """(menu) => {
  const free = menu.cloneNode(true);
  free.style.cssText = "position: absolute; width: max-content; min-width: 0; max-width: none";
  menu.after(free);
  const widths = [menu.offsetWidth, free.offsetWidth];
  free.remove();
  return widths;
}"""


@pytest.mark.parametrize("width", [360, 1280])
def test_what_is_decided_on_is_read_in_full_and_a_box_is_large_enough(
    visit: Callable[..., Page], owner: User, review: Review, width: int
) -> None:
    page = visit(owner, viewport={"width": width, "height": 740})
    open_grid(page, review)
    menu = page.get_by_label("Which images")
    expect(menu.get_by_role("option", name="all 42")).to_have_count(1)
    menu.evaluate("menu => menu.add(new Option('all 123,456'))")
    there, needed = menu.evaluate(WIDTHS)
    assert there >= needed
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = tile(page, 1).locator("input").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= (24 if width < 768 else 20)


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
    const [more, less] = [light(getComputedStyle(node).color), light(ground(node))]
      .sort((one, other) => other - one);
    return [name, (more + 0.05) / (less + 0.05)];
  }));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(
    visit: Callable[..., Page], owner: User, review: Review, scheme: str
) -> None:
    page = visit(owner, color_scheme=scheme)
    open_grid(page, review)
    press(page, "e", "k", "u", "1", "2")
    expect(status(page)).to_have_text("All saved")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(int(part) for part in re.findall(r"\d+", ground)[:3]) < 200) == (scheme == "dark")
    names = [
        ".tile__label",
        ".tile__brought",
        ".tile__rank",
        ".decide--remove",
        ".decide--keep",
        ".decide--unsure",
        ".decide--relabel",
    ]
    names += [
        f'.tile[data-decision="{action}"] .tile__decision'
        for action in ("remove", "keep", "unsure")
    ]
    names += [
        ".review-status",
        ".review-bar__say",
        ".review-progress__advice",
        ".review-filters__item",
    ]
    found = page.evaluate(CONTRAST, names)
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_without_scripts_plain_forms_decide(
    visit: Callable[..., Page], owner: User, review: Review, server: Server
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"/reviews/{review.id}")
    page.get_by_label("Select rank 3", exact=True).check(force=True)
    page.locator("#decide").get_by_role("button", name=re.compile("^Remove")).click()
    server.wait_for({3: "remove"})
    page.get_by_role("link", name="Continue, one by one").click()
    page.get_by_role("button", name=re.compile("^Keep")).click()
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    server.wait_for({1: "keep", 3: "remove"})
    page.get_by_role("button", name=re.compile("^Undo")).click()
    server.wait_for({3: "remove"})
