"""The focus view: neighbours, prefetching, and zoom."""

import re

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Explanation, Image, Review
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.browser.reviewing import open_focus, press
from tests.reviewing import a_map, a_ready_review, queue_of

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """A review with a map, and every image explained."""
    with database.transaction() as session:
        review = a_ready_review(session, storage)
        queue = a_map(session, review)
        validation = session.scalars(select(Image.id).where(Image.split == "validation")).all()
        session.add_all(
            Explanation(
                review_id=review.id,
                image_id=row.image_id,
                state="done",
                looked=9,
                worse=list(validation[:2]),
                better=[],
            )
            for row in queue
        )
        return review


def test_the_neighbours_follow_the_image_and_say_their_class(
    page: Page, review: Review, database: Database
) -> None:
    with database.transaction(write=False) as session:
        queue = queue_of(session, review)
    names = ["left", "middle", "right"]
    open_focus(page, review, "?at=1")
    for place in range(4):
        row = queue[place]
        expect(page.locator("[data-part=rank]")).to_have_text(str(place + 1))
        given = page.locator("[data-part=like-given]")
        expect(given.locator("b")).to_have_text(names[row.label])
        expect(given.locator("img")).to_have_count(6)
        other = page.locator("[data-part=like-predicted]")
        if row.predicted == row.label:
            expect(other).to_be_hidden()
        else:
            expect(other.locator("b")).to_have_text(names[row.predicted])
            expect(other.locator("img")).to_have_count(6)
        press(page, "k")


def test_what_comes_next_is_at_hand_pictures_and_reasons_included(
    page: Page, review: Review, database: Database, page_errors: PageErrors
) -> None:
    """Once loaded, five decisions show five images with reasons, without network."""
    page_errors.expect("ERR_INTERNET_DISCONNECTED")
    with database.transaction(write=False) as session:
        coming = [row.image_id for row in queue_of(session, review)[1:6]]
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    open_focus(page, review, "?at=1")
    while not all(
        any(url.endswith(f"/images/{image_id}/why") for url in asked) for image_id in coming
    ):
        page.wait_for_event("requestfinished")
    page.context.set_offline(True)
    for rank in range(2, 7):
        press(page, "k")
        expect(page.locator("[data-part=rank]")).to_have_text(str(rank))
        expect(page.locator("[data-part=why-sentence]")).to_contain_text(
            "images that this image affects most (an estimate; 9 were looked at)"
        )
        expect(page.locator("[data-part=why-worse] img")).to_have_count(2)
        assert page.locator("[data-part=image]").evaluate(
            "image => image.decode().then(() => image.naturalWidth > 0)"
        )
    page.context.set_offline(False)


def scale(page: Page) -> float:
    found = re.search(
        r"scale\(([\d.]+)\)", page.locator("[data-part=image]").get_attribute("style") or ""
    )
    return float(found[1]) if found else 1.0


def test_keys_buttons_and_the_wheel_look_closer_and_the_next_image_is_whole(
    page: Page, review: Review
) -> None:
    open_focus(page, review, "?at=1")
    press(page, "+", "+")
    assert scale(page) == pytest.approx(2.25)
    press(page, "-")
    assert scale(page) == pytest.approx(1.5)
    expect(page.locator("[data-part=zoom] output")).to_have_text("1.5 ×")
    page.get_by_role("button", name="Closer").click()
    assert scale(page) == pytest.approx(2.25)
    press(page, "f")
    assert scale(page) == 1
    page.locator("[data-part=window]").hover()
    page.mouse.wheel(0, -120)
    expect(page.locator("[data-part=window]")).to_have_attribute("data-zoomed", "yes")
    press(page, "k")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    assert scale(page) == 1


def test_dragging_and_shift_with_arrows_move_about_but_never_past_an_edge(
    page: Page, review: Review
) -> None:
    open_focus(page, review, "?at=1")
    image, window = page.locator("[data-part=image]"), page.locator("[data-part=window]")
    press(page, "+", "+")
    before = image.evaluate("one => one.getBoundingClientRect().left")
    press(page, "Shift+ArrowRight")
    assert image.evaluate("one => one.getBoundingClientRect().left") < before
    expect(page.locator("[data-part=rank]")).to_have_text("1")
    box = window.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 5_000, box["y"] + 5_000)
    page.mouse.up()
    seen = image.evaluate(
        "one => [one.getBoundingClientRect().left, one.getBoundingClientRect().top]"
    )
    assert seen == pytest.approx([box["x"], box["y"]], abs=1)
    press(page, "f", "ArrowRight")
    expect(page.locator("[data-part=rank]")).to_have_text("2")


def test_two_fingers_look_closer(page: Page, review: Review) -> None:
    open_focus(page, review, "?at=1")
    page.locator("[data-part=window]").evaluate(
        """window => {
          const { left, top } = window.getBoundingClientRect();
          window.setPointerCapture = () => {};
          const send = (type, pointerId, x, y) => window.dispatchEvent(
            new PointerEvent(type, { pointerId, pointerType: "touch", clientX: left + x,
              clientY: top + y, button: 0, bubbles: true }));
          send("pointerdown", 1, 100, 100);
          send("pointerdown", 2, 200, 100);
          send("pointermove", 1, 50, 100);
          send("pointermove", 2, 250, 100);
          send("pointerup", 1, 50, 100);
          send("pointerup", 2, 250, 100);
        }"""
    )
    assert scale(page) == pytest.approx(2.0)
