"""The whole loop in a real Chromium, by clicks and keys. A page that logs an error, throws or breaks the policy fails its test."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageErrors
from tests.loop.api import Api
from tests.loop.archives import CLASSES, IMAGES, REFUSED
from tests.loop.looking import WIDE, check_page, epochs_drawn, wait_for
from tests.running import Winnow

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EPOCHS = 4
# The longest wait for what a job does, in milliseconds.
JOB = 90_000


@pytest.fixture
def page(winnow: Winnow, open_page: Callable[..., Page]) -> Page:
    """The owner's browser, signed in by a login link."""
    page = open_page(winnow.address, viewport=WIDE)
    page.goto(winnow.login_link())
    expect(page).to_have_url(f"{winnow.address}/datasets")
    return page


@pytest.fixture(scope="module")
def sample(api: Api) -> int:
    """The sample, imported."""
    made = api.post("/data-sets", {"name": "For pages", "source": {"kind": "sample"}}, status=202)
    api.follow(made["job"])
    return int(made["id"])


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def number_in(address: str) -> int:
    """The number at the end of an address: a data set's, a run's, a review's."""
    found = re.search(r"/(\d+)(?:/focus)?(?:\?.*)?$", address)
    assert found, address
    return int(found.group(1))


def start_training(page: Page, data_set_id: int, **fields: str) -> int:
    """Fill in the folded form and start; the run."""
    page.goto(f"/datasets/{data_set_id}/runs/new")
    page.get_by_text("Advanced", exact=True).click()
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ").capitalize(), exact=True).fill(value)
    check_page(page)
    button(page, "Start training")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Training \d+"))
    return number_in(page.url)


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
    # The page shows the import and then, by itself, what it found.
    expect(page.get_by_role("link", name="Train a model")).to_be_visible(timeout=JOB)
    expect(page.get_by_role("main")).to_contain_text("1,797 images, 10 classes, grey.")
    expect(page.get_by_role("main")).to_contain_text("training labels were made wrong on purpose")
    check_page(page)
    return number_in(page.url)


def train(page: Page, data_set_id: int) -> int:
    page.get_by_role("link", name="Train a model").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train a model")
    run_id = start_training(page, data_set_id, epochs=str(EPOCHS), seed="5")
    expect(page.get_by_role("progressbar")).to_be_visible()
    wait_for(page, lambda: 0 < epochs_drawn(page) < EPOCHS, "the chart to grow while it trains")
    check_page(page)
    expect(page.get_by_role("button", name="Find harmful images")).to_be_visible(timeout=JOB)
    assert epochs_drawn(page) == EPOCHS
    check_page(page)
    return run_id


def find_harmful_images(page: Page, run_id: int) -> int:
    button(page, "Find harmful images")
    # Where the scoring has ended before the page is there, the review opens at once.
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Finding harmful images|Which of these images do not belong"))
    check_page(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Which of these images do not belong?", timeout=JOB)
    expect(page.locator("[data-count=decided]")).to_have_text("0")
    check_page(page)
    return number_in(page.url)


def decide_one_by_one(page: Page, planted: set[int]) -> int:
    """Decide on the first images by keys; how many were removed."""
    page.get_by_role("link", name="Start, one by one").click()
    expect(page.locator("[data-part=show-keys]")).to_be_visible()  # keys count from now on
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
    expect(page.get_by_role("heading", level=1)).to_have_text("Which of these images do not belong?")
    return removed


def decide_together(page: Page, planted: set[int]) -> int:
    """Tick the wrong ones of the first page and remove them together; how many."""
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
        expect(page.locator(f"li.tile[data-image='{image_id}']")).to_have_attribute("data-decision", "remove")
    check_page(page)
    return len(wrong)


def clean_and_retrain(page: Page, removed: int) -> None:
    page.get_by_role("link", name="Clean and retrain").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(f"{removed} images leave, 0 get another label")
    check_page(page)
    button(page, "Clean and retrain")
    expect(page.get_by_role("heading", level=1)).to_have_text("Measuring whether it helps")
    expect(page.get_by_role("progressbar")).to_be_visible()
    check_page(page)


def read_the_verdict(page: Page) -> None:
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text(re.compile("Cleaning helped|No measurable change|Cleaning did harm"), timeout=JOB)
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"test accuracy \d+\.\d % → \d+\.\d %"))
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"ou found \d+ of \d+ planted"))
    drawn = page.locator("[data-controller=verdict-chart] :is(canvas, svg)")
    expect(drawn.first).to_be_visible()
    check_page(page)


def accept(page: Page, data_set_id: int) -> None:
    button(page, "Accept this version")
    expect(page.get_by_role("main")).to_contain_text("Accepted: version 2 is the data set's current one.")
    check_page(page)
    page.get_by_role("link", name="Start the second round").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train a model")
    page.goto(f"/datasets/{data_set_id}")
    expect(page.get_by_role("row", name=re.compile("^2 .* current"))).to_be_visible()
    check_page(page)


def test_a_reload_in_the_middle_shows_the_progress_so_far(page: Page, sample: int) -> None:
    start_training(page, sample, epochs="400")
    wait_for(page, lambda: epochs_drawn(page) >= 2, "the second epoch")
    drawn, bar = epochs_drawn(page), page.get_by_role("progressbar")
    done = float(bar.get_attribute("value") or 0)
    page.reload()
    assert epochs_drawn(page) >= drawn
    assert float(bar.get_attribute("value") or 0) >= done > 0
    wait_for(page, lambda: epochs_drawn(page) > drawn, "the training to go on")
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"about .+ left"))
    button(page, "Cancel")
    expect(page.get_by_role("button", name="Try again")).to_be_visible(timeout=JOB)


def test_a_training_is_cancelled_and_tried_again_from_its_page(page: Page, sample: int) -> None:
    start_training(page, sample, epochs="6")
    wait_for(page, lambda: epochs_drawn(page) >= 1, "the first epoch")
    button(page, "Cancel")
    expect(page.get_by_role("main")).to_contain_text("This was stopped.", timeout=JOB)
    check_page(page)
    button(page, "Try again")
    expect(page.get_by_role("button", name="Find harmful images")).to_be_visible(timeout=JOB)
    assert epochs_drawn(page) == 6


def test_a_training_that_diverges_says_in_which_epoch_and_what_to_do(page: Page, sample: int) -> None:
    start_training(page, sample, epochs="3", learning_rate="100")
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(re.compile(r"diverged in epoch \d+: .*Choose a lower learning rate than 100"), timeout=JOB)
    expect(page.get_by_role("button", name="Find harmful images")).to_have_count(0)
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    check_page(page)


def test_a_setting_that_makes_no_sense_is_named_beside_its_field(page: Page, page_errors: PageErrors, sample: int) -> None:
    page_errors.expect("status of 422")
    page.goto(f"/datasets/{sample}/runs/new")
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("Epochs", exact=True).fill("many")
    button(page, "Start training")
    expect(page.get_by_label("Epochs", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Epochs", exact=True)).to_have_value("many")
    check_page(page)


def test_an_upload_shows_what_was_refused_and_why(page: Page, archive: Path) -> None:
    page.get_by_label("Zip file", exact=True).set_input_files(archive)
    button(page, "Import")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ripe and unripe")
    expect(page.get_by_role("main")).to_contain_text(f"{2 * IMAGES} images, 2 classes, in colour.", timeout=JOB)
    expect(page.get_by_role("row", name=re.compile(re.escape(CLASSES[1])))).to_be_visible()
    page.get_by_text(f"{len(REFUSED)} files were refused").click()
    rows = page.get_by_role("region", name="Refused files").locator("tbody tr")
    shown = {row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text() for row in rows.all()}
    assert all(reason.strip() for reason in shown.values())
    assert sorted(path.removeprefix("fruit/") for path in shown) == sorted(REFUSED)
    check_page(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the list").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert {row["path"]: row["reason"] for row in csv.DictReader(io.StringIO(text, newline=""))} == shown


def test_the_other_pages_hold_together_too(page: Page, sample: int) -> None:
    for address in ("/datasets", "/jobs", "/jobs?state=failed", "/account", "/api/docs", "/login", f"/datasets/{sample}"):
        page.goto(address)
        check_page(page)
    job = page.goto("/jobs") and page.locator("main table a").first.get_attribute("href")
    page.goto(job or "")
    expect(page.get_by_role("heading", name="Log")).to_be_visible()
    check_page(page)
