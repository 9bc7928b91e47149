"""Accidents and interruptions: each leads to a sane page, and no decision is lost."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import DataSet, Review, User, Version
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import Server, at_rank, here, open_focus, open_grid, press, tile
from tests.reviewing import a_ready_review, decide

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_a_double_click_decides_on_one_image(
    page: Page, review: Review, server: Server, view: str
) -> None:
    (open_grid if view == "grid" else open_focus)(page, review)
    page.get_by_role("button", name=re.compile("^Remove")).dblclick()
    if view == "grid":
        assert here(page) == 2
    else:
        at_rank(page, 2)
    page.get_by_role("button", name=re.compile("^Keep")).click()
    server.wait_for({1: "remove", 2: "keep"})


def test_the_back_button_after_decisions_leads_to_the_grid_that_shows_them(
    page: Page, review: Review, server: Server
) -> None:
    open_grid(page, review)
    press(page, "e", "Enter")
    page.wait_for_url("**/focus?at=2")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    press(page, "k")
    at_rank(page, 3)
    press(page, "u")
    at_rank(page, 4)
    server.wait_for({1: "remove", 2: "keep", 3: "unsure"})
    expect(page).to_have_url(re.compile("at=4$"))
    page.go_back()
    expect(page).to_have_url(re.compile(rf"/reviews/{review.id}$"))
    for rank, action in ((1, "remove"), (2, "keep"), (3, "unsure")):
        expect(tile(page, rank)).to_have_attribute("data-decision", action)
    page.go_forward()
    at_rank(page, 4)


def test_without_scripts_the_back_button_and_the_form_again_change_the_decision_and_lose_none(
    visit: Callable[..., Page], owner: User, review: Review, server: Server
) -> None:
    page = visit(owner, java_script_enabled=False)
    page.goto(f"/reviews/{review.id}/focus?at=1")
    page.get_by_role("button", name=re.compile("^Remove")).click()
    at_rank(page, 2)
    page.go_back()
    at_rank(page, 1)
    page.get_by_role("button", name=re.compile("^Keep")).click()
    page.goto(f"/reviews/{review.id}")
    assert set(server.decisions()) == {1}
    expect(tile(page, 1)).not_to_have_attribute("data-decision", "")


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_an_image_whose_file_is_gone_says_so_and_can_be_decided(
    page: Page, review: Review, server: Server, storage: Storage, page_errors: PageErrors, view: str
) -> None:
    page_errors.expect("404")
    storage.thumbnail(review.data_set_id, server.queue()[0].content_hash).unlink()
    (open_grid if view == "grid" else open_focus)(page, review)
    place = (
        tile(page, 1).locator(".tile__link")
        if view == "grid"
        else page.locator("[data-part=window]")
    )
    expect(place).to_have_attribute("data-missing", "")
    press(page, "e")
    if view == "focus":
        at_rank(page, 2)
        expect(place).not_to_have_attribute("data-missing", "")
    else:
        expect(tile(page, 2).locator(".tile__link")).not_to_have_attribute("data-missing", "")
    server.wait_for({1: "remove"})


def test_a_page_that_another_decided_meanwhile_is_right_when_it_comes_back(
    page: Page, review: Review, server: Server, database: Database, reviewer: User
) -> None:
    open_grid(page, review, "?decision=undecided")
    rows = server.queue()
    with database.transaction() as session:
        for row in rows[:10]:
            decide(session, reviewer, review, row.image_id, "keep")
    expect(tile(page, 10).locator(".tile__decision")).to_have_text("Keep · rita")
    page.goto(f"/reviews/{review.id}?decision=undecided&before=5")
    expect(page.locator(".tile").first).to_have_attribute("data-rank", "11")


@pytest.mark.parametrize(
    "query",
    [
        "?label=99",
        "?predicted=none&size=all",
        "?after=999999&size=all",
        "?size=7000&order=best",
        "/focus?at=999999&label=-1",
    ],
)
def test_an_address_that_makes_no_sense_is_a_page_where_one_can_decide(
    page: Page, review: Review, server: Server, query: str
) -> None:
    page.goto(f"/reviews/{review.id}{query}")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    press(page, "k")
    server.wait_for(1, lambda there: len(there.decisions()))


@pytest.mark.parametrize("opened", [open_grid, open_focus])
def test_an_address_from_before_another_version_was_accepted_says_so_and_loses_no_decision(
    page: Page,
    review: Review,
    server: Server,
    database: Database,
    opened: Callable[[Page, Review], None],
) -> None:
    with database.transaction() as session:
        data_set = session.get_one(DataSet, review.data_set_id)
        newer = Version(
            data_set_id=data_set.id,
            number=2,
            parent_id=review.version_id,
            state="accepted",
            note="Cleaned",
        )
        session.add(newer)
        session.flush()
        data_set.current_version_id = newer.id
    opened(page, review)
    expect(page.locator(".notice")).to_contain_text(
        "Version 2 was accepted, and this review began from version 1."
    )
    press(page, "e")
    server.wait_for({1: "remove"})
    page.get_by_role("link", name="Clean and retrain").click()
    expect(page.locator("main")).to_contain_text("Version 2 was accepted")


def test_an_address_of_another_data_sets_review_shows_that_review_with_its_own_classes(
    page: Page, review: Review, server: Server, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        other = a_ready_review(session, storage, name="Two", class_names=("yes", "no"))
    open_grid(page, other, "?label=2&predicted=1")
    expect(page.locator(".notice")).to_have_text(
        "This data set has no class number 2. That filter was left out."
    )
    press(page, "1")
    expect(page.locator(".tile[data-decision=relabel], .tile[data-decision=keep]")).to_have_count(1)
    Server(database, other).wait_for(1, lambda there: len(there.decisions()))
    assert server.decisions() == {}
