"""Two people on an image in Chromium: another's decision is shown, and stays until changed."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from backend.review.deciding import decisions
from backend.review.deciding.decision_log import Choice
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import Server, open_focus, open_grid, press, status, tile
from tests.reviewing import a_ready_review, decide, queue_of

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """42 suggestions of the classes left, middle and right."""
    with database.transaction() as session:
        return a_ready_review(session, storage)


@pytest.fixture
def server(database: Database, review: Review) -> Server:
    return Server(database, review)


@pytest.fixture
def rita(database: Database, reviewer: User, review: Review) -> Callable[..., None]:
    """rita(action, *places): the reviewer decides elsewhere on these places (from 1)."""

    def decides(action: str, *places: int) -> None:
        with database.transaction() as session:
            for row in queue_of(session, review):
                if row.position in places:
                    decide(session, reviewer, review, row.image_id, action)

    return decides


@pytest.fixture(autouse=True)
def refusals_are_meant(page_errors: PageErrors) -> None:
    page_errors.expect(r"409 \(Conflict\)|ERR_INTERNET_DISCONNECTED|ERR_FAILED")


def conflict(page: Page) -> Locator:
    return page.locator("[data-part=conflict]")


def no_news(page: Page) -> None:
    """Hide the acts of others, as if the page had just polled."""
    page.route(re.compile("/changes"), lambda route: route.abort())


def test_what_was_decided_offline_does_not_overwrite_what_another_did_meanwhile(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_grid(page, review)
    page.context.set_offline(True)
    press(page, "k", "k", "k")
    rita("remove", 2)
    page.context.set_offline(False)
    server.wait_for({1: "keep", 2: "remove", 3: "keep"})
    expect(conflict(page)).to_contain_text("rita removed this image meanwhile. You: Keep.")
    expect(tile(page, 2).locator("[data-part=decision]")).to_have_text("Remove · rita")
    conflict(page).get_by_role("button", name="Keep rita’s").click()
    expect(conflict(page)).to_be_hidden()
    press(page, "k")
    server.wait_for({1: "keep", 2: "remove", 3: "keep", 4: "keep"})


def test_one_may_insist_also_after_a_reload(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_focus(page, review)
    no_news(page)
    rita("remove", 1)
    press(page, "k")
    expect(conflict(page)).to_be_visible()
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    page.unroute_all()
    open_focus(page, review)
    expect(conflict(page)).to_contain_text("rita removed this image meanwhile. You: Keep.")
    assert server.decisions() == {1: "remove"}
    conflict(page).get_by_role("button", name="Use mine").click()
    server.wait_for({1: "keep"})
    expect(conflict(page)).to_be_hidden()
    press(page, "z")
    server.wait_for({1: "remove"})


def test_several_conflicts_come_one_after_the_other(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_grid(page, review)
    no_news(page)
    rita("remove", 1, 2)
    press(page, "k", "u")
    expect(conflict(page)).to_contain_text("and 1 more")
    conflict(page).get_by_role("button", name="Use mine").click()
    expect(conflict(page)).to_contain_text("You: Unsure.")
    expect(conflict(page)).not_to_contain_text("more")
    conflict(page).get_by_role("button", name="Use mine").click()
    server.wait_for({1: "keep", 2: "unsure"})
    expect(conflict(page)).to_be_hidden()


def test_deciding_again_on_what_one_now_sees_settles_it(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_grid(page, review)
    no_news(page)
    rita("remove", 1)
    press(page, "k")
    expect(tile(page, 1).locator("[data-part=decision]")).to_have_text("Remove · rita")
    press(page, "ArrowLeft", "u")
    server.wait_for({1: "unsure"})
    expect(conflict(page)).to_be_hidden()


def test_what_one_has_seen_is_overwritten_without_a_question(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_focus(page, review)
    rita("remove", 1)
    expect(page.locator("[data-part=decision]")).to_have_text("Remove · rita")
    press(page, "k")
    server.wait_for({1: "keep"})
    expect(conflict(page)).to_be_hidden()


def test_a_selection_skips_what_another_decided_and_says_how_many(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_grid(page, review)
    no_news(page)
    rita("remove", 2)
    press(page, "Space", "Shift+ArrowRight", "Shift+ArrowRight", "k")
    server.wait_for({1: "keep", 2: "remove", 3: "keep"})
    expect(status(page)).to_have_text(
        "2 images decided. Undo takes them back together. 1 stayed: someone decided since."
    )
    expect(tile(page, 2).locator("[data-part=decision]")).to_have_text("Remove · rita")


def test_where_all_of_a_selection_was_decided_meanwhile_no_undo_is_promised(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    open_grid(page, review)
    no_news(page)
    rita("remove", 1, 2)
    press(page, "Space", "Shift+ArrowRight", "k")
    expect(status(page)).to_have_text("No image was decided. 2 stayed: someone decided since.")
    assert server.decisions() == {1: "remove", 2: "remove"}


def test_a_stale_page_after_a_large_act_of_another_overwrites_nothing(
    page: Page,
    review: Review,
    server: Server,
    database: Database,
    reviewer: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.review.queue.queue_pages.MOST_CHANGES", 5)
    open_focus(page, review)
    page.wait_for_load_state("networkidle")
    no_news(page)
    with database.transaction() as session:
        images = [row.image_id for row in queue_of(session, review)[:30]]
        decisions.decide_many(session, reviewer, review, images, Choice("remove"), "hers")
    press(page, "k")
    expect(conflict(page)).to_contain_text("rita removed this image meanwhile.")
    page.unroute_all()
    # The news that so much has changed reaches the image on the screen too.
    expect(page.locator("[data-part=decision]")).to_have_text("Remove · rita")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    press(page, "k")
    server.wait_for({**dict.fromkeys(range(1, 31), "remove"), 2: "keep"})


def test_the_history_of_an_image_is_unfolded_and_follows_what_is_decided(
    page: Page, review: Review, server: Server, rita: Callable[..., None]
) -> None:
    rita("remove", 1)
    open_focus(page, review, "?at=1")
    acts = page.locator("[data-part=history-acts] li")
    expect(acts.first).to_be_hidden()
    page.get_by_text("Decided so far").click()
    expect(acts).to_have_count(1)
    expect(acts.first).to_contain_text("rita removed it")
    press(page, "k")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    expect(acts.first).to_have_text("No one has decided on this image yet.")
    press(page, "z")
    expect(page.locator("[data-part=rank]")).to_have_text("1")
    expect(acts).to_have_count(3)
    expect(acts.first).to_contain_text("olga took it back")
