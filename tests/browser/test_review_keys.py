"""Personal keys: each can be changed, none twice, and their meanings are shown everywhere."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from backend.core.models import Review, User
from tests.browser.reviewing import (
    Server,
    at_rank,
    here,
    open_focus,
    open_grid,
    press,
    selected,
    tile,
)

pytestmark = pytest.mark.browser


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Keys")


def change(page: Page, act: str, key: str) -> str:
    """Give an act a key in the open dialog; returns the dialog's answer."""
    dialog(page).locator(f"[data-act={act}]").click()
    expect(dialog(page).get_by_role("status")).to_contain_text("Press the new key")
    press(page, key)
    return dialog(page).get_by_role("status").inner_text()


def test_a_key_is_changed_shown_kept_and_works_in_both_views(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?")
    assert change(page, "remove", "x") == "“Remove from the data set” is X now."
    press(page, "Escape", "e", "x")
    expect(tile(page, 1)).to_have_attribute("data-decision", "remove")
    assert here(page) == 2
    server.wait_for({1: "remove"})
    open_focus(page, review)
    expect(page.get_by_role("button", name="Remove X")).to_be_visible()
    press(page, "x")
    at_rank(page, 3)
    server.wait_for({1: "remove", 2: "remove"})


def test_a_key_that_another_has_is_swapped_and_said(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?")
    said = change(page, "remove", "k")
    assert (
        said == "“Remove from the data set” is K now. It was for “Keep as it is”, which now has E."
    )
    press(page, "Escape", "k", "e")
    server.wait_for({1: "remove", 2: "keep"})


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("3", "Digits give labels"),
        ("Control+b", "belong to the browser"),
        ("F5", "“F5” belongs to the browser"),
        ("PageDown", "the browser"),
    ],
)
def test_a_key_that_cannot_be_had_is_refused_in_words(
    page: Page, review: Review, key: str, sentence: str
) -> None:
    open_grid(page, review)
    press(page, "?")
    assert sentence in change(page, "keep", key)
    press(page, "Escape")
    expect(dialog(page).get_by_role("status")).to_have_text("“Keep as it is” stays as it is.")
    expect(dialog(page)).to_be_visible()
    expect(dialog(page).locator("[data-act=keep]")).to_have_text("K")


def test_keys_mashed_in_the_dialog_decide_nothing(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?", "e", "k", "u", "s", "z", "a", "1", "ArrowRight", "Control+z")
    dialog(page).locator("[data-act=undo]").click()
    press(page, "9", "Control+e", "Escape", "e", "k", "Escape")
    expect(dialog(page)).to_have_count(0)
    assert (here(page), selected(page), server.decisions()) == (1, [], {})
    press(page, "k")
    server.wait_for({1: "keep"})


def test_who_closes_the_dialog_by_enter_or_space_changes_no_key(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?", "Enter", "k", "Space", "Delete", "Escape")
    expect(dialog(page)).to_have_count(0)
    press(page, "k")
    server.wait_for({1: "keep"})
    assert page.evaluate("localStorage.getItem('winnow:keys')") is None


def test_space_can_be_given_without_pressing_the_button_again(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?")
    assert "Space now. It was for “Select, in the grid”, which now has K" in change(
        page, "keep", "Space"
    )
    press(page, "Escape")
    expect(page.locator("[data-part=keys]")).to_be_hidden()
    press(page, "Space")
    server.wait_for({1: "keep"})


def test_the_usual_keys_come_back(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    press(page, "?")
    usual = dialog(page).get_by_role("button", name="Reset the keys")
    expect(usual).to_be_hidden()
    change(page, "following", "d")
    usual.click()
    expect(dialog(page).get_by_role("status")).to_have_text("The usual keys are back.")
    press(page, "Escape", "ArrowRight", "d")
    assert (here(page), server.decisions()) == (2, {})


def test_the_dialog_is_used_by_keyboard_alone(page: Page, review: Review, server: Server) -> None:
    open_grid(page, review)
    press(page, "?", "Tab", "Enter", "r", "Tab", "Enter", "Escape", "Escape", "r")
    expect(tile(page, 1)).to_have_attribute("data-decision", "remove")
    server.wait_for({1: "remove"})


def test_a_change_reaches_the_other_tab(page: Page, review: Review, server: Server) -> None:
    other = page.context.new_page()
    open_grid(other, review)
    open_grid(page, review)
    press(page, "?")
    change(page, "keep", "q")
    expect(other.get_by_role("button", name="Keep Q")).to_be_visible()
    other.bring_to_front()
    press(other, "q")
    server.wait_for({1: "keep"})


@pytest.mark.parametrize(
    "kept", ["nonsense", '{"remove": "k"}', '{"remove": 7, "fly": "f"}', "[]", "null"]
)
def test_what_the_browser_kept_may_be_anything(
    visit: Callable[..., Page], owner: User, review: Review, server: Server, kept: str
) -> None:
    page = visit(owner)
    page.evaluate("kept => localStorage.setItem('winnow:keys', kept)", kept)
    open_grid(page, review)
    press(page, "e", "k")
    server.wait_for({1: "remove", 2: "keep"})


def test_a_held_arrow_goes_on_and_does_not_scroll_the_page_away(page: Page, review: Review) -> None:
    open_grid(page, review)
    for _ in range(5):
        page.keyboard.down("ArrowRight")
    page.keyboard.up("ArrowRight")
    assert here(page) == 6
