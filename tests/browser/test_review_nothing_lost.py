"""Nothing is lost: two people, a dead network, an expired session, late or missing answers."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, Route, expect
from sqlalchemy import delete

from backend.core.db import Database
from backend.core.models import Credential, Review, User
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import (
    Server,
    at_rank,
    follow,
    here,
    open_focus,
    open_grid,
    press,
    status,
    tile,
    until,
)
from tests.reviewing import decide, queue_of

pytestmark = pytest.mark.browser

# Milliseconds within which two people see each other's decisions.
SOON = 5_000


def kept(page: Page) -> int:
    """Count the acts that wait in the browser."""
    return int(
        page.evaluate(
            "Object.keys(localStorage).filter(name => name.startsWith('winnow:outbox:')).length"
        )
    )


def sign_out_everywhere(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Credential).where(Credential.kind == "session"))


# ── two people ────────────────────────────────────────────────────────────────────────────────────


def test_two_people_see_each_others_decisions(
    visit: Callable[..., Page], owner: User, reviewer: User, review: Review
) -> None:
    olga, rita = visit(owner), visit(reviewer)
    open_grid(olga, review)
    open_grid(rita, review)
    press(olga, "e")
    expect(tile(rita, 1).locator(".tile__decision")).to_have_text("Remove · olga", timeout=SOON)
    press(rita, "ArrowRight", "k")
    expect(tile(olga, 2).locator(".tile__decision")).to_have_text("Keep · rita", timeout=SOON)
    for page in (olga, rita):
        expect(page.locator("[data-count=decided]")).to_have_text("2", timeout=SOON)
        expect(page.locator("[data-count=mine]")).to_have_text("1", timeout=SOON)
    press(olga, "z")
    expect(tile(rita, 1)).to_have_attribute("data-decision", "", timeout=SOON)
    expect(tile(rita, 2).locator(".tile__decision")).to_have_text("Keep")


def test_focus_passes_over_what_somebody_else_decides_meanwhile(
    visit: Callable[..., Page],
    owner: User,
    reviewer: User,
    review: Review,
    database: Database,
    server: Server,
) -> None:
    page = visit(owner)
    open_focus(page, review)
    with database.transaction() as session:
        for row in queue_of(session, review)[:3]:
            decide(session, reviewer, review, row.image_id, "keep")
    expect(page.locator("[data-part=decision]")).to_have_text("Keep · rita", timeout=SOON)
    press(page, "ArrowRight")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    press(page, "ArrowLeft")
    expect(page.locator("[data-part=rank]")).to_have_text("1")
    press(page, "u")
    expect(page.locator("[data-part=rank]")).to_have_text("4")
    server.wait_for({1: "unsure", 2: "keep", 3: "keep"})


def test_a_large_act_of_somebody_else_reaches_every_tile(
    page: Page,
    reviewer: User,
    review: Review,
    database: Database,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.review.queue.queue_pages.MOST_CHANGES", 5)
    open_grid(page, review)
    with database.transaction() as session:
        for row in queue_of(session, review)[:30]:
            decide(session, reviewer, review, row.image_id, "unsure")
    expect(page.locator('.tile[data-decision="unsure"]')).to_have_count(30, timeout=SOON)


def test_nobody_takes_back_what_another_decided(
    page: Page,
    reviewer: User,
    review: Review,
    database: Database,
    server: Server,
    page_errors: PageErrors,
) -> None:
    page_errors.expect(r"404 \(Not Found\)")
    open_grid(page, review)
    with database.transaction() as session:
        decide(session, reviewer, review, server.queue()[0].image_id, "remove")
    press(page, "z")
    expect(status(page)).to_have_text("There is nothing of yours to undo.")
    assert server.decisions() == {1: "remove"}


# ── no network ────────────────────────────────────────────────────────────────────────────────────


def test_without_a_network_decisions_stay_in_the_browser_and_are_sent_later(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_INTERNET_DISCONNECTED")
    open_grid(page, review)
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    press(page, "e", "k", "Space", "Shift+ArrowRight", "u")
    expect(status(page)).to_have_text(
        "Offline. 3 decisions are kept in this browser and sent when the connection is back."
    )
    assert [tile(page, rank).get_attribute("data-decision") for rank in (1, 2, 3, 4, 5)] == [
        "remove",
        "keep",
        "unsure",
        "unsure",
        "",
    ]
    assert (kept(page), server.decisions()) == (3, {})
    page.context.set_offline(False)
    server.wait_for({1: "remove", 2: "keep", 3: "unsure", 4: "unsure"})
    expect(status(page)).to_have_attribute("data-state", "saved")
    assert kept(page) == 0


def test_focus_goes_on_without_a_network_as_far_as_it_looked_ahead(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_INTERNET_DISCONNECTED")
    open_focus(page, review)
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    for rank in range(1, 6):
        expect(page.locator("[data-part=rank]")).to_have_text(str(rank))
        assert (
            page.locator("[data-part=image]").evaluate(
                "image => image.decode().then(() => image.naturalWidth)"
            )
            == 28
        )
        press(page, "e")
    expect(status(page)).to_have_text(re.compile("^Offline. 5 decisions are kept"))
    page.context.set_offline(False)
    server.wait_for(dict.fromkeys(range(1, 6), "remove"))


def test_focus_shows_the_next_image_when_the_network_is_back(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_INTERNET_DISCONNECTED|ERR_FAILED")
    page.route(re.compile("/suggestions"), lambda route: route.abort())
    open_focus(page, review)
    press(page, "k")
    expect(status(page)).to_have_text(
        re.compile("cannot be loaded. It comes when the connection is back")
    )
    page.unroute_all()
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    server.wait_for({1: "keep"})


def test_a_reload_before_the_network_is_back_loses_nothing(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_FAILED")
    open_grid(page, review)
    page.route(re.compile("/decisions"), lambda route: route.abort())
    press(page, "e", "k")
    expect(status(page)).to_have_text(re.compile("^Offline. 2 decisions are kept"))
    page.reload()
    expect(tile(page, 2).locator(".tile__decision")).to_have_text("Keep")
    assert here(page) == 3
    assert server.decisions() == {}
    page.unroute_all()
    server.wait_for({1: "remove", 2: "keep"})


def test_an_answer_that_never_arrives_is_asked_for_again_and_decides_once(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("ERR_FAILED")
    open_grid(page, review)
    lost: list[str] = []

    def lose_the_first_answer(route: Route, request: Request) -> None:
        if lost:
            route.fallback()
            return
        lost.append(request.post_data or "")
        route.fetch()
        route.abort()

    page.route(re.compile("/decisions"), lose_the_first_answer)
    press(page, "e")
    expect(status(page)).to_have_attribute("data-state", "saved")
    server.wait_for({1: "remove"})
    assert len(lost) == 1
    press(page, "z")
    server.wait_for({})


def test_a_busy_server_is_asked_again(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("503")
    open_grid(page, review)
    answers = [503, 503]
    page.route(
        re.compile("/decisions"),
        lambda route: route.fulfill(status=answers.pop()) if answers else route.fallback(),
    )
    press(page, "e")
    expect(status(page)).to_have_attribute("data-state", "offline")
    expect(status(page)).to_have_attribute("data-state", "saved")
    assert (server.decisions(), answers, kept(page)) == ({1: "remove"}, [], 0)


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_a_server_with_a_problem_is_not_called_offline(
    page: Page, review: Review, server: Server, page_errors: PageErrors, view: str
) -> None:
    page_errors.expect("500")
    (open_grid if view == "grid" else open_focus)(page, review)
    page.route(re.compile("/decisions"), lambda route: route.fulfill(status=500))
    press(page, "e")
    expect(status(page)).to_have_text(
        "The server has a problem. 1 decision is kept in this browser and tried again."
    )
    if view == "focus":
        at_rank(page, 2)
    press(page, "k")
    expect(status(page)).to_have_text(
        "The server has a problem. 2 decisions are kept in this browser and tried again."
    )
    assert (kept(page), server.decisions()) == (2, {})
    page.unroute_all()
    server.wait_for({1: "remove", 2: "keep"})


# ── no session ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("view", ["grid", "focus"])
def test_an_expired_session_keeps_decisions_until_one_has_signed_in_again(
    page: Page, review: Review, server: Server, database: Database, owner: User,
    login_link: Callable[[User], str], page_errors: PageErrors, view: str,
) -> None:  # fmt: skip
    page_errors.expect(r"401 \(Unauthorized\)|403 \(Forbidden\)")
    (open_grid if view == "grid" else open_focus)(page, review)
    page.wait_for_load_state("networkidle")  # everything is prefetched
    sign_out_everywhere(database)
    press(page, "e")
    expect(status(page)).to_contain_text("You are signed out. 1 decision is kept in this browser")
    press(page, "k")
    expect(status(page)).to_contain_text("2 decisions are kept in this browser")
    assert server.decisions() == {}
    with page.context.expect_page() as opened:
        status(page).get_by_role("link").click()
    opened.value.wait_for_url("**/login*")
    follow(opened.value, login_link(owner))
    opened.value.close()
    page.bring_to_front()
    server.wait_for({1: "remove", 2: "keep"})
    expect(status(page)).to_have_attribute("data-state", "saved")
    press(page, "u")
    server.wait_for({1: "remove", 2: "keep", 3: "unsure"})


def test_decisions_are_never_sent_in_another_persons_name(
    page: Page, review: Review, server: Server, database: Database, owner: User,
    reviewer: User, login_link: Callable[[User], str], page_errors: PageErrors,
) -> None:  # fmt: skip
    page_errors.expect(r"401 \(Unauthorized\)|403 \(Forbidden\)")
    open_grid(page, review)
    sign_out_everywhere(database)
    press(page, "e")
    expect(status(page)).to_contain_text("You are signed out.")
    follow(page, login_link(reviewer))
    open_grid(page, review)
    press(page, "ArrowRight", "k")
    server.wait_for({2: "keep"})
    expect(status(page)).to_have_attribute("data-state", "saved")  # the answer has arrived, too
    assert kept(page) == 1
    follow(page, login_link(owner))
    open_grid(page, review)
    server.wait_for(
        {1: owner.id, 2: reviewer.id},
        lambda there: {row.position: row.decided_by for row in there.queue() if row.decision},
    )


def test_a_decision_that_is_refused_is_shown_and_does_not_block_the_others(
    page: Page, review: Review, server: Server, page_errors: PageErrors
) -> None:
    page_errors.expect("422")
    open_grid(page, review)
    label = server.queue()[0].label
    # A page older than the rule that refuses its request.
    tile(page, 1).evaluate("tile => { tile.dataset.label = '-1'; }")
    press(page, str(label))
    expect(status(page)).to_contain_text("The image already has this label.")
    expect(tile(page, 1)).to_have_attribute("data-decision", "")
    press(page, "k")
    server.wait_for({2: "keep"})
    # The server knows a moment before the browser has its answer.
    until(page, "!Object.keys(localStorage).some(name => name.startsWith('winnow:outbox:'))")


def test_two_tabs_of_one_person_keep_the_order_of_acts(
    page: Page, review: Review, server: Server
) -> None:
    other = page.context.new_page()
    open_grid(page, review)
    open_grid(other, review)
    for _ in range(3):
        page.bring_to_front()
        press(page, "e")
        other.bring_to_front()
        expect(tile(other, 1)).to_have_attribute("data-decision", "remove", timeout=SOON)
        press(other, "z")
        expect(tile(other, 1)).to_have_attribute("data-decision", "")
        page.bring_to_front()
        expect(tile(page, 1)).to_have_attribute("data-decision", "", timeout=SOON)
        press(page, "ArrowLeft")
    server.wait_for({})
