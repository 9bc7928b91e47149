"""The map: drawing selects images, the grid shows them, one act with one undo decides them."""

import re

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Job, MapPoint, Review
from backend.core.storage import Storage
from tests.browser.reviewing import Server, press, said, selected
from tests.reviewing import a_map, a_ready_review, queue_of

pytestmark = pytest.mark.browser


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """The first ten of the queue stand at the left, all others at the right."""
    with database.transaction() as session:
        review = a_ready_review(session, storage)
        a_map(session, review)
        for place, row in enumerate(queue_of(session, review)):
            point = session.get_one(MapPoint, (review.id, row.image_id))
            point.x, point.y = (0.0 if place < 10 else 1.0) + (place % 10) / 100, (place % 7) / 10
        return review


def open_map(page: Page, review: Review) -> dict[str, float]:
    page.goto(f"/reviews/{review.id}/map")
    expect(page.locator("[data-part=bar]")).to_be_visible()
    box = page.locator("[data-part=canvas]").bounding_box()
    assert box is not None
    return dict(box)


def draw_around_the_left_half(page: Page, box: dict[str, float]) -> None:
    middle = box["x"] + box["width"] / 2
    bottom = box["y"] + box["height"] - 2
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in ((middle, box["y"] + 2), (middle, bottom), (box["x"] + 2, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def test_what_is_drawn_around_is_looked_at_and_decided_on_as_a_whole(
    page: Page, review: Review, database: Database
) -> None:
    draw_around_the_left_half(page, open_map(page, review))
    expect(page.locator("[data-part=picked]")).to_have_text("10 images picked out")
    page.get_by_role("button", name="Review selected").click()
    page.wait_for_url("**?selection=*")
    expect(said(page)).to_have_text("10 images in this view")
    expect(page.locator(".tile")).to_have_count(10)
    expect(page.locator(".tile--here")).to_have_count(1)
    press(page, "a")
    expect(said(page)).to_contain_text("All 10 images")
    press(page, "e")
    Server(database, review).wait_for(dict.fromkeys(range(1, 11), "remove"))
    press(page, "z")
    Server(database, review).wait_for({})


def test_a_click_picks_one_and_nothing_can_be_picked_again(page: Page, review: Review) -> None:
    box = open_map(page, review)
    page.mouse.click(box["x"] + 3, box["y"] + 3)
    expect(page.get_by_role("button", name="Review selected")).to_be_disabled()
    draw_around_the_left_half(page, box)
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator("[data-part=picked]")).to_have_text("Draw around images to pick them out.")


def test_pointing_at_an_image_shows_it(page: Page, review: Review) -> None:
    box = open_map(page, review)
    seen = page.locator("[data-part=seen]")
    expect(seen).to_be_hidden()
    found = page.request.get(f"/api/v1/reviews/{review.id}/map").json()
    across, down = max(found["x"]), max(found["y"])
    grown = min((box["width"] - 28) / across, (box["height"] - 28) / down)
    # The first of the queue stands at the left and above all others.
    left, top = (box["width"] - across * grown) / 2, (box["height"] - down * grown) / 2
    page.mouse.move(box["x"] + left + 1, box["y"] + top + 1)
    expect(seen.locator("img")).to_have_attribute("src", re.compile(r"/thumbnails/"))
    card = page.request.get(f"/api/v1/reviews/{review.id}/suggestions?limit=1").json()["items"][0]
    expect(seen.locator("img")).to_have_attribute("src", card["thumbnail"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
    expect(seen).to_be_hidden()


def test_the_groups_lead_to_their_images_by_keyboard(page: Page, review: Review) -> None:
    open_map(page, review)
    page.get_by_role("link", name="Group 2").focus()
    press(page, "Enter")
    page.wait_for_url("**?group=2")
    expect(page.locator(".tile")).to_have_count(14)
    expect(page.locator(".tile--here")).to_have_count(1)
    press(page, "a")
    expect(said(page)).to_contain_text("All 14 images")
    assert len(selected(page)) == 14


def test_colours_follow_the_choice_and_the_legend_says_what_they_mean(
    page: Page, review: Review
) -> None:
    open_map(page, review)
    legend = page.locator("[data-part=legend] li")
    expect(legend).to_have_text(["left", "middle", "right"])
    page.get_by_label("Colour").select_option("decisions")
    expect(legend).to_have_text(["not yet decided", "remove", "keep", "new label", "unsure"])


def test_only_where_label_and_model_differ_is_picked_then(
    page: Page, review: Review, database: Database
) -> None:
    with database.transaction(write=False) as session:
        differ = sum(row.label != row.predicted for row in queue_of(session, review)[:10])
    box = open_map(page, review)
    page.get_by_label("label and model differ").check()
    draw_around_the_left_half(page, box)
    expect(page.locator("[data-part=picked]")).to_contain_text(f"{differ} image")


def test_the_better_layout_is_asked_for_and_takes_over_when_it_is_ready(
    page: Page, review: Review, database: Database
) -> None:
    page.clock.install()
    open_map(page, review)
    layout = page.get_by_label("Arranged")
    expect(page.locator("[data-part=coming]")).to_contain_text("it appears by itself")
    expect(layout).to_have_value("overview")
    with database.transaction() as session:
        (job,) = session.scalars(select(Job).where(Job.kind == "map")).all()
        job.state = "done"
        for place, point in enumerate(session.scalars(select(MapPoint))):
            point.near_x, point.near_y = float(place), float(place % 5)
    page.clock.run_for(4_000)
    expect(layout).to_have_value("neighbours")
    expect(page.locator("[data-part=coming]")).to_have_text("")
    layout.select_option("overview")
    expect(page.locator("[data-part=legend] li")).to_have_count(3)
