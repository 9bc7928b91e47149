"""Relabelling: the model's label by one key, others by typing a part of the name."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from backend.core.db import Database
from backend.core.models import DataSet, Review, User
from backend.core.storage import Storage
from tests.browser.reviewing import (
    Server,
    at_rank,
    here,
    open_focus,
    open_grid,
    press,
    status,
    tile,
)
from tests.reviewing import a_ready_review

pytestmark = pytest.mark.browser


@pytest.fixture
def many(database: Database, storage: Storage) -> Review:
    """Thirty classes, three images each: more than there are digits."""
    with database.transaction() as session:
        return a_ready_review(
            session,
            storage,
            class_names=tuple(f"flower {number}" for number in range(30)),
            per_class=3,
        )


def menu(page: Page) -> Locator:
    return page.get_by_role("combobox", name=re.compile("New label|It is really"))


def options(page: Page) -> list[str]:
    return page.get_by_role("option").filter(visible=True).all_inner_texts()


def disagreeing(server: Server) -> tuple[int, int]:
    """Return position and prediction of the first image that the model labels otherwise."""
    return next(
        (row.position, row.predicted) for row in server.queue() if row.predicted != row.label
    )


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_s_gives_the_label_that_the_model_sees(
    page: Page, review: Review, server: Server, view: str
) -> None:
    rank, predicted = disagreeing(server)
    if view == "grid":
        open_grid(page, review, f"?from={rank}")
    else:
        open_focus(page, review, f"?at={rank}")
    press(page, "s")
    server.wait_for({rank: "relabel"})
    assert server.queue()[rank - 1].decision_label == predicted


def test_s_does_nothing_where_its_button_is_greyed_out(
    page: Page, review: Review, server: Server
) -> None:
    rank = next(row.position for row in server.queue() if row.predicted == row.label)
    open_focus(page, review, f"?at={rank}")
    expect(page.locator("[data-part=suggested]")).to_be_disabled()
    press(page, "s")
    at_rank(page, rank)
    expect(page.locator("[data-part=decision]")).to_have_text("Not yet decided")
    press(page, "u")
    server.wait_for({rank: "unsure"})


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_esc_leaves_the_menu_of_labels_and_gives_the_keys_back(
    page: Page, review: Review, server: Server, view: str
) -> None:
    (open_grid if view == "grid" else open_focus)(page, review)
    press(page, "l")
    expect(page.get_by_label(re.compile("New label|It is really"))).to_be_focused()
    press(page, "ArrowDown", "Escape")
    expect(page.locator("[data-part=label]")).to_have_value("")
    assert page.url.endswith("/focus" if view == "focus" else f"/reviews/{review.id}"), (
        "Esc leaves the menu, not the page"
    )
    press(page, "u")
    server.wait_for({1: "unsure"})


def test_the_button_says_what_the_model_sees_of_this_image(
    page: Page, review: Review, server: Server
) -> None:
    open_focus(page, review)
    names = ("left", "middle", "right")
    for row in server.queue()[:4]:
        at_rank(page, row.position)
        button = page.locator("[data-part=suggested]")
        expect(button).to_have_text(re.compile(f"^It is {names[row.predicted]}"))
        expect(button).to_be_enabled(enabled=row.predicted != row.label)
        press(page, "ArrowRight")


def test_s_on_a_selection_gives_the_one_label_that_the_model_sees_in_all_of_it(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    rows = [row for row in server.queue() if row.predicted != row.label]
    same = [row.position for row in rows if row.predicted == rows[0].predicted][:2]
    other = next(row.position for row in rows if row.predicted != rows[0].predicted)
    for rank in (*same, other):
        tile(page, rank).locator("input").check(force=True)
    press(page, "s")
    expect(status(page)).to_contain_text("The model sees different classes")
    assert server.decisions() == {}
    tile(page, other).locator("input").uncheck(force=True)
    press(page, "s")
    server.wait_for(dict.fromkeys(same, "relabel"))


def test_without_scripts_the_button_gives_the_label_too(
    visit: Callable[..., Page], owner: User, review: Review, server: Server
) -> None:
    page = visit(owner, java_script_enabled=False)
    rank, predicted = disagreeing(server)
    page.goto(f"/reviews/{review.id}/focus?at={rank}")
    page.get_by_role("button", name=re.compile("^It is ")).click()
    server.wait_for({rank: "relabel"})
    assert server.queue()[rank - 1].decision_label == predicted


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_l_opens_a_menu_to_search_in_and_enter_gives_the_label(
    page: Page, many: Review, database: Database, view: str
) -> None:
    (open_grid if view == "grid" else open_focus)(page, many)
    press(page, "l")
    expect(menu(page)).to_be_focused()
    expect(menu(page)).to_have_attribute("aria-expanded", "true")
    page.keyboard.type("ower 2")
    shown = options(page)
    assert len(shown) == 11
    assert all("ower 2" in text for text in shown)
    press(page, "ArrowDown", "ArrowDown", "ArrowUp")
    name = page.locator('[role=option][aria-selected="true"]').inner_text()
    expect(menu(page)).to_have_attribute("aria-activedescendant", f"label-option-{name.split()[1]}")
    press(page, "Enter")
    there = Server(database, many)
    there.wait_for({1: "relabel"})
    assert f"flower {there.queue()[0].decision_label}" == name.replace(" the model sees this", "")
    press(page, "k")  # the keys are back
    there.wait_for({1: "relabel", 2: "keep"})


def test_what_the_model_sees_and_what_was_given_lately_come_first(
    page: Page, many: Review, database: Database
) -> None:
    open_focus(page, many)
    rows = Server(database, many).queue()
    press(page, "l")
    assert options(page)[0] == f"flower {rows[0].predicted} the model sees this"
    page.keyboard.type("flower 17")
    press(page, "Enter")
    at_rank(page, 2)
    press(page, "l")
    assert [text.split()[1] for text in options(page)[:2]] == [str(rows[1].predicted), "17"]


def test_in_the_menu_no_key_decides_and_esc_leaves_it(
    page: Page, many: Review, database: Database
) -> None:
    open_grid(page, many)
    press(page, "l", "e", "k", "u", "z", "1", "Space", "?")
    assert page.get_by_role("option").filter(visible=True).all_inner_texts() == [
        "No class is called that."
    ]
    press(page, "Enter", "ArrowDown", "Escape")
    expect(menu(page)).to_have_value("")
    expect(menu(page)).to_have_attribute("aria-expanded", "false")
    assert (here(page), Server(database, many).decisions()) == (1, {})
    press(page, "k")
    Server(database, many).wait_for({1: "keep"})


def test_a_label_is_chosen_by_mouse(page: Page, many: Review, database: Database) -> None:
    open_grid(page, many)
    menu(page).fill("flower 29")
    page.locator("#label-option-29").click()
    there = Server(database, many)
    there.wait_for({1: "relabel" if there.queue()[0].label != 29 else "keep"})


@pytest.mark.parametrize("opened", [open_grid, open_focus])
def test_what_was_typed_is_there_for_the_button_beside_it(
    page: Page, many: Review, database: Database, opened: Callable[[Page, Review], None]
) -> None:
    opened(page, many)
    label = next(label for label in (17, 18) if label != Server(database, many).queue()[0].label)
    menu(page).fill(f"flower {label}")
    page.get_by_role("button", name="Relabel").click()
    Server(database, many).wait_for({1: "relabel"})
    assert Server(database, many).queue()[0].decision_label == label


def test_three_thousand_classes_are_searched_without_showing_them_all(
    page: Page, database: Database, review: Review, server: Server
) -> None:
    with database.transaction() as session:
        session.get_one(DataSet, review.data_set_id).class_names = [
            f"species {number}" for number in range(3000)
        ]
    open_focus(page, review)
    press(page, "l")
    assert len(options(page)) == 51
    assert options(page)[-1] == "and 2,950 more: type part of the name"
    page.keyboard.type("IES 2718")
    press(page, "Enter")
    server.wait_for({1: "relabel"})
    assert server.queue()[0].decision_label == 2718


def test_ten_classes_have_digits_and_a_plain_menu(page: Page, review: Review) -> None:
    open_grid(page, review)
    expect(page.locator(".label-menu")).to_have_count(0)
    press(page, "l")
    expect(page.get_by_label("New label", exact=True)).to_be_focused()
