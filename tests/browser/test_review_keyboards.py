"""Keyboards of other scripts: a key that types nothing of ours counts by its place."""

import pytest
from playwright.sync_api import Page, expect

from backend.core.models import Review
from tests.browser.reviewing import Server, at_rank, here, open_focus, open_grid, press, tile

pytestmark = pytest.mark.browser

# The layout, what its key types, the key's place, and what happens.
KEYS = [
    ("Russian", "у", "KeyE", "remove"),
    ("Russian", "л", "KeyK", "keep"),
    ("Russian", "я", "KeyZ", "undo"),
    ("Greek", "ε", "KeyE", "remove"),
    ("Hebrew", "ל", "KeyK", "keep"),
    ("Korean", "ㄷ", "KeyE", "remove"),
    ("French", "&", "Digit1", "label 1"),
    ("Arabic", "١", "Digit1", "label 1"),
    ("German", "z", "KeyY", "undo"),
    ("US", "e", "KeyE", "remove"),
    ("Thai", "ำ", "KeyE", "remove"),
    ("Thai", "ี", "KeyU", "unsure"),
    ("Hindi", "क", "KeyK", "keep"),
    ("Hindi", "१", "Digit1", "label 1"),
    ("Persian", "۲", "Digit2", "label 2"),
    ("Arabic, number pad", "٠", "Numpad0", "label 0"),
    ("Georgian", "ე", "KeyE", "remove"),
    ("Korean, by an input method", "Process", "KeyK", "keep"),
    ("French", "é", "Digit2", "label 2"),
    ("French", "à", "Digit0", "label 0"),
    ("Czech", "+", "Digit1", "label 1"),
    ("Czech", "ě", "Digit2", "label 2"),
    ("Bépo", "«", "Digit2", "label 2"),
    ("French", "w", "KeyZ", "nothing"),
    ("Dvorak", ".", "KeyE", "nothing"),
    ("Dvorak", "'", "KeyQ", "nothing"),
    ("Dvorak", "o", "KeyS", "nothing"),
    ("Dvorak", "e", "KeyD", "remove"),
    ("Dvorak", "k", "KeyV", "keep"),
    ("Hebrew", "'", "KeyW", "nothing"),
    ("Spanish", "¡", "Equal", "nothing"),
    ("Turkish", "ı", "KeyI", "nothing"),
    ("number pad without Num Lock", "End", "Numpad1", "nothing"),
    ("US", "1", "Digit1", "label 1"),
]


def type_key(page: Page, key: str, code: str, **held: bool) -> None:
    """Send the keydown of another layout's keyboard."""
    page.evaluate(
        """event => document.activeElement.dispatchEvent(new KeyboardEvent("keydown",
          {bubbles: true, cancelable: true, ...event}))""",
        {"key": key, "code": code, **held},
    )


def test_each_layouts_keys_act_by_what_they_type_or_by_their_place(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    decided: dict[int, str] = {}
    labels: dict[int, int] = {}
    own = {row.position: row.label for row in server.queue()}
    for layout, key, code, must in KEYS:
        rank, name = here(page), f"{layout} {key} on {code}"
        type_key(page, key, code)
        if must == "undo":
            rank = max(decided)
            decided[rank], labels = "", {at: to for at, to in labels.items() if at != rank}
        elif must.startswith("label"):
            label = int(must[-1])
            decided[rank] = "keep" if label == own[rank] else "relabel"
            if label != own[rank]:
                labels[rank] = label
        else:
            decided[rank] = "" if must == "nothing" else must
        expect(tile(page, rank), name).to_have_attribute("data-decision", decided[rank])
        if not decided[rank]:
            del decided[rank]
            assert here(page) == rank, name
    server.wait_for(decided)
    given = {row.position: row.decision_label for row in server.queue()}
    assert {rank: given[rank] for rank in labels} == labels


@pytest.mark.parametrize(("undo", "held"), [("я", {}), ("я", {"ctrlKey": True})])
def test_a_russian_keyboard_undoes_and_does_again(
    page: Page, review: Review, server: Server, undo: str, held: dict[str, bool]
) -> None:
    open_focus(page, review)
    type_key(page, "у", "KeyE")
    at_rank(page, 2)
    server.wait_for({1: "remove"})
    type_key(page, undo, "KeyZ", **held)
    at_rank(page, 1)
    server.wait_for({})
    type_key(page, undo.upper(), "KeyZ", shiftKey=True, **held)
    server.wait_for({1: "remove"})


def test_shift_and_a_sign_above_a_digit_give_no_label(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    type_key(page, "!", "Digit1", shiftKey=True)
    type_key(page, "1", "Digit1", shiftKey=True)  # French
    expect(tile(page, 1)).to_have_attribute("data-decision", "relabel")
    assert here(page) == 2


def test_a_key_of_another_script_is_assigned_by_its_place(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.locator("[data-act=keep]").click()
    type_key(page, "&", "Digit1")
    expect(dialog.get_by_role("status")).to_contain_text("Digits give labels")
    type_key(page, "й", "KeyQ")
    expect(dialog.get_by_role("status")).to_have_text("“Keep as it is” is Q now.")
    press(page, "Escape")
    type_key(page, "й", "KeyQ")
    press(page, "q")
    server.wait_for({1: "keep", 2: "keep"})


def test_a_key_kept_in_another_script_still_works(
    page: Page, review: Review, server: Server
) -> None:
    page.evaluate("localStorage.setItem('winnow:keys', JSON.stringify({keep: 'у'}))")
    open_grid(page, review)
    type_key(page, "у", "KeyE")
    press(page, "e")
    server.wait_for({1: "keep", 2: "remove"})
