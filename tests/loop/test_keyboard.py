"""The whole journey by keyboard alone, from the data sets to an accepted version."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.loop.api import Api
from tests.loop.looking import JOB, number_in

# Keys reach the servers as clicks do, which test_chromium.py walks through on both.
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.parametrize("winnow", ["embedded"], indirect=True),
]

REMOVED = 6
# The focused element: its accessible name, and the visibility of the focus.
FOCUSED = """() => {
  const element = document.activeElement;
  const label = element.labels?.[0]?.textContent ?? element.getAttribute("aria-label") ??
    element.textContent;
  return [label.replace(/\\s+/g, " ").trim(), getComputedStyle(element).outlineStyle !== "none"];
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus, visibly."""
    expect(page.locator("h1")).to_be_visible()
    for _ in range(400):
        page.keyboard.press("Tab")
        label, seen = page.evaluate(FOCUSED)
        if label == name or label.startswith(f"{name} "):
            assert seen, f"one cannot see that “{name}” has the focus"
            return
    raise AssertionError(f"Tab never comes to “{name}” at {page.url}")


def go(page: Page, name: str) -> None:
    tab_to(page, name)
    page.keyboard.press("Enter")


def heading(page: Page, words: str, timeout: float = 15_000) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(words), timeout=timeout)


def test_the_whole_journey_needs_no_mouse(api: Api, page: Page) -> None:
    go(page, "Take the sample")
    expect(page.get_by_role("link", name="Train a model")).to_be_visible(timeout=JOB)
    data_set_id = number_in(page.url)
    go(page, "Train a model")
    heading(page, "Train a model")
    go(page, "Advanced")
    tab_to(page, "Epochs")
    page.keyboard.type("3")
    go(page, "Start training")
    heading(page, "Training")
    expect(page.get_by_role("button", name="Find harmful images")).to_be_visible(timeout=JOB)
    go(page, "Find harmful images")
    heading(page, "Which of these images do not belong?", JOB)
    go(page, "Start, one by one")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()
    for count in range(1, REMOVED + 1):
        page.keyboard.press("e")
        expect(page.locator("[data-count=decided]")).to_have_text(str(count))
        expect(page.locator("[data-part=rank]")).to_have_text(
            str(count + 1)
        )  # no key decides on an image that is not on the screen yet
    expect(page.locator("[data-part=status]")).to_contain_text("aved")
    page.keyboard.press("Escape")
    heading(page, "Which of these images do not belong?")
    go(page, "Clean and retrain")
    heading(page, "Clean and retrain")
    go(page, "Clean and retrain")
    heading(page, "Accuracy|accuracy|No measurable change|No change beyond", JOB)
    go(page, "Accept this version")
    expect(page.get_by_role("main")).to_contain_text(
        "Accepted: version 2 is the data set's current one."
    )
    assert api.get(f"/data-sets/{data_set_id}/versions")[0]["changes"]["removed"] == REMOVED
