"""The whole loop in a real Chromium, by clicks and keys; no page may log an error."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.loop.api import Api
from tests.loop.looking import (
    JOB,
    button,
    check_page,
    epochs_drawn,
    number_in,
    start_training,
    wait_for,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EPOCHS = 3


def test_the_whole_loop_by_hand(api: Api, page: Page) -> None:
    data_set_id = take_the_sample(page)
    run_id = train(page, data_set_id)
    review_id = find_harmful_images(page, run_id)
    planted = set(api.get(f"/data-sets/{data_set_id}/planted")["image_ids"])
    one_by_one = decide_one_by_one(page, planted)
    together = decide_together(page, planted)
    progress = api.get(f"/reviews/{review_id}")["progress"]
    assert (progress["remove"], progress["unsure"]) == (one_by_one + together, 0)
    clean_and_retrain(page, one_by_one + together)
    read_the_verdict(page)
    accept(page, data_set_id)


def take_the_sample(page: Page) -> int:
    check_page(page)
    button(page, "Take the sample")
    expect(page.get_by_role("heading", level=1)).to_have_text("Handwritten digits (sample)")
    check_page(page)
    # The page shows the import, then loads its result by itself.
    expect(page.get_by_role("link", name="Train a model")).to_be_visible(timeout=JOB)
    expect(page.get_by_role("main")).to_contain_text("1,797 images, 10 classes, grey.")
    expect(page.get_by_role("main")).to_contain_text("training labels were made wrong on purpose")
    check_page(page)
    return number_in(page.url)


def train(page: Page, data_set_id: int) -> int:
    page.get_by_role("link", name="Train a model").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train a model")
    run_id = start_training(page, data_set_id, epochs=str(EPOCHS), seed="5")
    wait_for(page, lambda: epochs_drawn(page) > 0, "the first epoch on the chart")
    check_page(page)
    expect(page.get_by_role("button", name="Find harmful images")).to_be_visible(timeout=JOB)
    wait_for(page, lambda: epochs_drawn(page) == EPOCHS, "the chart of all epochs")
    check_page(page)
    return run_id


def find_harmful_images(page: Page, run_id: int) -> int:
    button(page, "Find harmful images")
    # If the scoring has ended already, the review opens at once.
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("Finding harmful images|Which of these images do not belong")
    )
    check_page(page)
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Which of these images do not belong?", timeout=JOB
    )
    expect(page.locator("[data-count=decided]")).to_have_text("0")
    check_page(page)
    return number_in(page.url)


def decide_one_by_one(page: Page, planted: set[int]) -> int:
    """Decide on the first images by keys. Returns the number removed."""
    page.get_by_role("link", name="Start, one by one").click()
    expect(page.locator("[data-part=show-keys]")).to_be_visible()  # keys work from now on
    removed, status = 0, page.locator("[data-part=status]")
    for count in range(1, 9):
        expect(page.locator("[data-part=rank]")).to_have_text(str(count))
        wrong = int(page.locator("[data-part=image-id]").get_attribute("value") or 0) in planted
        removed += wrong
        page.keyboard.press("e" if wrong else "k")
        expect(page.locator("[data-count=decided]")).to_have_text(str(count))
        expect(status).to_contain_text("aved")
    check_page(page)
    page.keyboard.press("u")
    expect(page.locator("[data-count=unsure]")).to_have_text("1")
    page.keyboard.press("z")
    expect(page.locator("[data-count=unsure]")).to_have_text("0")
    expect(page.locator("[data-part=rank]")).to_have_text("9")
    expect(page.locator("[data-part=decision]")).to_have_text("Not yet decided")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-part=rank]")).to_have_text("8")
    expect(page.locator("[data-count=decided]")).to_have_text("8")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Which of these images do not belong?"
    )
    return removed


def decide_together(page: Page, planted: set[int]) -> int:
    """Tick the wrong images of the first page and remove them. Returns their number."""
    page.goto(page.url.split("?")[0] + "?size=50")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    expect(page.locator("[data-count=decided]")).to_have_text("8")
    tiles = page.locator("li.tile[data-decision='']")
    ids = [int(tile.get_attribute("data-image") or 0) for tile in tiles.all()]
    wrong = [image_id for image_id in ids if image_id in planted]
    for image_id in wrong:
        page.locator(f"li.tile[data-image='{image_id}'] input[type=checkbox]").check()
    page.keyboard.press("e")
    expect(page.locator("[data-count=decided]")).to_have_text(str(8 + len(wrong)))
    for image_id in wrong:
        expect(page.locator(f"li.tile[data-image='{image_id}']")).to_have_attribute(
            "data-decision", "remove"
        )
    check_page(page)
    return len(wrong)


def clean_and_retrain(page: Page, removed: int) -> None:
    page.get_by_role("link", name="Clean and retrain").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(
        f"Remove {removed} images, relabel 0"
    )
    check_page(page)
    button(page, "Clean and retrain")
    expect(page.get_by_role("heading", level=1)).to_have_text("Measuring whether it helps")
    expect(page.get_by_role("progressbar")).to_be_visible()
    check_page(page)


def read_the_verdict(page: Page) -> None:
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(
        re.compile("Accuracy|accuracy|No measurable change|No change beyond"), timeout=JOB
    )
    expect(page.get_by_role("main")).to_contain_text(
        re.compile(r"test accuracy \d+\.\d % → \d+\.\d %")
    )
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"ou found \d+ of \d+ planted"))
    drawn = page.locator("[data-controller=verdict-chart] :is(canvas, svg)")
    expect(drawn.first).to_be_visible()
    check_page(page)


def accept(page: Page, data_set_id: int) -> None:
    button(page, "Accept this version")
    expect(page.get_by_role("main")).to_contain_text(
        "Accepted: version 2 is the data set's current one."
    )
    check_page(page)
    page.get_by_role("link", name="Start the second round").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train a model")
    page.goto(f"/datasets/{data_set_id}")
    expect(page.get_by_role("heading", name="Version 2 current")).to_be_visible()
    check_page(page)
