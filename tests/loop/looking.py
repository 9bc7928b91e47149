"""Checks for every page, common actions, and waiting for scripts."""

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Error, Page, expect

# The longest wait for a job's effect, in milliseconds.
JOB = 180_000
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 800}

# The HTML of visible fields that have no name for a screen reader.
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
  .filter((field) => field.checkVisibility())
  .filter((field) => !field.labels?.length && !field.getAttribute("aria-label") &&
    !field.getAttribute("aria-labelledby"))
  .map((field) => field.outerHTML)"""
# Elements that reach beyond the window's right edge.
STICKING_OUT = """() => document.documentElement.scrollWidth <=
  document.documentElement.clientWidth ? [] :
  [...document.querySelectorAll("main *, header *")]
    .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map((one) => `${one.outerHTML.slice(0, 120)} reaches ${one.getBoundingClientRect().right}`)"""
# The chart library may not be loaded yet.
DRAWN = (
    "() => globalThis.Chart?.getChart(document.querySelector('canvas[data-part=loss]'))"
    "?.data.labels.length ?? 0"
)


def check_page(page: Page) -> None:
    """Check for one main heading, a title, named fields, and no sideways scrolling on a phone."""
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("h1")).to_have_text(re.compile(r"\S"))
    expect(page).to_have_title(re.compile(r"\S.* · Winnow$"))
    assert ask(page, NAMELESS) == [], page.url
    page.set_viewport_size(NARROW)
    wait_for(page, lambda: ask(page, "() => innerWidth") == NARROW["width"], "the narrow window")
    # A chart follows the window a moment later.
    wait_for(
        page,
        lambda: not ask(page, STICKING_OUT),
        f"everything to fit; {ask(page, STICKING_OUT)}",
        5,
    )
    page.set_viewport_size(WIDE)


def ask(page: Page, script: str) -> Any:
    """Evaluate a script in the page, which may be reloading at this moment."""
    for _ in range(20):
        try:
            return page.evaluate(script)
        except Error as error:
            if "context was destroyed" not in error.message:
                raise
            page.wait_for_load_state()
    raise AssertionError(f"{page.url} loads itself again and again")


def wait_for(page: Page, true: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Let the page run until `true`; the policy forbids Playwright's own wait_for_function."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what} at {page.url}"
        page.wait_for_timeout(50)


def epochs_drawn(page: Page) -> int:
    """Count the epochs in the training's chart."""
    return int(ask(page, DRAWN))


def button(page: Page, name: str) -> None:
    """Press the button of that name."""
    page.get_by_role("button", name=name, exact=True).click()


def number_in(address: str) -> int:
    """Return the id at the end of the address."""
    found = re.search(r"/(\d+)(?:/focus)?(?:\?.*)?$", address)
    assert found, address
    return int(found.group(1))


def start_training(page: Page, data_set_id: int, **fields: str) -> int:
    """Fill in the folded form and start. Returns the run."""
    page.goto(f"/datasets/{data_set_id}/runs/new")
    page.get_by_text("Advanced", exact=True).click()
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ").capitalize(), exact=True).fill(value)
    check_page(page)
    button(page, "Start training")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Training \d+"))
    return number_in(page.url)
