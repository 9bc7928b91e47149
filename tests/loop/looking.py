"""What every page must have, whatever it shows; what tests do on several pages; and waiting for what a page does by itself."""

import re
import time
from collections.abc import Callable

from playwright.sync_api import Page, expect

# The longest wait for what a job does, in milliseconds.
JOB = 90_000
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 800}

# Visible fields without a name that a screen reader could say, each as its HTML.
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((field) => field.checkVisibility())
  .filter((field) => !field.labels?.length && !field.getAttribute("aria-label") && !field.getAttribute("aria-labelledby"))
  .map((field) => field.outerHTML)"""
# What sticks out to the right of the window, each with its place; empty while nothing scrolls sideways.
STICKING_OUT = """() => document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
  [...document.querySelectorAll("main *, header *")]
    .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map((one) => `${one.outerHTML.slice(0, 120)} reaches ${one.getBoundingClientRect().right}`)"""
# The chart library may not be loaded yet.
DRAWN = "() => globalThis.Chart?.getChart(document.querySelector('canvas[data-part=loss]'))?.data.labels.length ?? 0"


def check_page(page: Page) -> None:
    """One main heading, a title, a name for each field, and no sideways scrolling on a phone."""
    where = page.url
    assert page.locator("h1").count() == 1, f"{where} has {page.locator('h1').count()} main headings"
    assert page.locator("h1").inner_text().strip(), where
    assert re.fullmatch(r"\S.* · Winnow", page.title()), f"{where}: {page.title()}"
    assert page.evaluate(NAMELESS) == [], where
    page.set_viewport_size(NARROW)
    assert page.evaluate("() => window.innerWidth") == NARROW["width"]
    wait_for(page, lambda: not page.evaluate(STICKING_OUT), f"a chart to shrink with the window; {page.evaluate(STICKING_OUT)}", 3)
    page.set_viewport_size(WIDE)


def wait_for(page: Page, true: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Let the page run until `true`. (Playwright's own waiting evaluates strings in the page, which its policy forbids.)"""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what} at {page.url}"
        page.wait_for_timeout(50)


def epochs_drawn(page: Page) -> int:
    """How many epochs the training's chart shows."""
    return int(page.evaluate(DRAWN))


def button(page: Page, name: str) -> None:
    """Press the button of that name."""
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
