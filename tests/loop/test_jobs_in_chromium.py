"""Jobs in Chromium, as a user sees them: reload, stop, retry, fail, upload."""

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageErrors
from tests.loop.api import Api
from tests.loop.archives import CLASSES, IMAGES, REFUSED
from tests.loop.looking import JOB, button, check_page, epochs_drawn, start_training, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.parametrize("winnow", ["embedded"], indirect=True),
]


@pytest.fixture(scope="module")
def sample(api: Api) -> int:
    """The sample, imported."""
    made = api.post("/data-sets", {"name": "For pages", "source": {"kind": "sample"}}, status=202)
    api.follow(made["job"])
    return int(made["id"])


def test_a_reload_in_the_middle_shows_the_progress_so_far(page: Page, sample: int) -> None:
    start_training(page, sample, epochs="400")
    wait_for(page, lambda: epochs_drawn(page) >= 2, "the second epoch")
    drawn, bar = epochs_drawn(page), page.get_by_role("progressbar")
    done = float(bar.get_attribute("value") or 0)
    page.reload()
    wait_for(page, lambda: epochs_drawn(page) >= drawn, "the chart as it was")
    assert float(bar.get_attribute("value") or 0) >= done > 0
    wait_for(page, lambda: epochs_drawn(page) > drawn, "the training to go on")
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"about .+ left"))
    button(page, "Cancel")
    expect(page.get_by_role("button", name="Continue")).to_be_visible(timeout=JOB)


def test_a_training_is_cancelled_and_tried_again_from_its_page(page: Page, sample: int) -> None:
    # Long enough that a fast machine does not finish before Cancel is pressed.
    start_training(page, sample, epochs="25")
    wait_for(page, lambda: epochs_drawn(page) >= 1, "the first epoch")
    button(page, "Cancel")
    expect(page.get_by_role("main")).to_contain_text("This was stopped.", timeout=JOB)
    check_page(page)
    button(page, "Continue")
    expect(page.get_by_role("button", name="Find harmful images")).to_be_visible(timeout=JOB)
    assert epochs_drawn(page) == 25


def test_a_training_that_diverges_says_in_which_epoch_and_what_to_do(
    page: Page, sample: int
) -> None:
    start_training(page, sample, epochs="3", learning_rate="100")
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(
        re.compile(r"diverged in epoch \d+: .*Choose a lower learning rate than 100"), timeout=JOB
    )
    expect(page.get_by_role("button", name="Find harmful images")).to_have_count(0)
    check_page(page)
    page.get_by_role("link", name="Train with other settings").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Train a model")


def test_a_setting_that_makes_no_sense_is_named_beside_its_field(
    page: Page, page_errors: PageErrors, sample: int
) -> None:
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
    expect(page.get_by_role("main")).to_contain_text(
        f"{2 * IMAGES} images, 2 classes, in colour.", timeout=JOB
    )
    expect(page.get_by_role("heading", level=3, name=CLASSES[1], exact=True)).to_be_visible()
    page.get_by_text(f"{len(REFUSED)} files were refused").click()
    rows = page.get_by_role("region", name="Refused files").locator("tbody tr")
    shown = {
        row.locator("td").nth(0).inner_text(): row.locator("td").nth(1).inner_text()
        for row in rows.all()
    }
    assert all(reason.strip() for reason in shown.values())
    assert sorted(path.removeprefix("fruit/") for path in shown) == sorted(REFUSED)
    check_page(page)
    with page.expect_download() as download:
        page.locator("a[href$='refusals.csv']").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert {
        row["path"]: row["reason"] for row in csv.DictReader(io.StringIO(text, newline=""))
    } == shown


def test_the_other_pages_hold_together_too(page: Page, sample: int) -> None:
    for address in (
        "/datasets",
        "/jobs",
        "/jobs?state=failed",
        "/account",
        "/api/docs",
        "/login",
        f"/datasets/{sample}",
    ):
        page.goto(address)
        check_page(page)
    job = page.goto("/jobs") and page.locator("main table a").first.get_attribute("href")
    page.goto(job or "")
    expect(page.get_by_role("heading", name="Log")).to_be_visible()
    check_page(page)
