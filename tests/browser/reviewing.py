"""Opening a review's pages in browser tests, and reading the server's state."""

import json
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from backend.core.db import Database
from backend.core.models import Review, Suggestion
from tests.reviewing import queue_of


def follow(page: Page, link: str) -> None:
    """Open a login link, and use it up."""
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "token=" not in address and not address.endswith("/login"))


def open_grid(page: Page, review: Review, query: str = "") -> None:
    """The page of suggestions, once its script listens."""
    page.goto(f"/reviews/{review.id}{query}")
    expect(page.locator(".tile--here")).to_have_count(1)


def open_focus(page: Page, review: Review, query: str = "") -> None:
    """Open the focus view, once its script listens."""
    page.goto(f"/reviews/{review.id}/focus{query}")
    expect(page.locator("[data-part=show-keys]")).to_be_visible()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tile(page: Page, rank: int) -> Locator:
    return page.locator(f'.tile[data-rank="{rank}"]')


def here(page: Page) -> int:
    """The rank that the cursor is on."""
    return int(page.locator(".tile--here").get_attribute("data-rank") or 0)


def at_rank(page: Page, rank: int) -> None:
    """The focus view shows this rank, at once or in a moment."""
    expect(page.locator("[data-part=rank]")).to_have_text(str(rank))


def selected(page: Page) -> list[int]:
    """The ranks of the selected tiles."""
    return [
        int(rank)
        for rank in page.locator(".tile:has(input:checked)").evaluate_all(
            "tiles => tiles.map(tile => tile.dataset.rank)"
        )
    ]


def once(condition: str) -> str:
    """Make a JavaScript promise: kept once an expression holds, broken after a timeout."""
    return """(async () => {
      const late = performance.now() + 15_000;
      while (!(CONDITION)) {
        if (performance.now() > late) throw new Error("never: " + TEXT);
        await new Promise(requestAnimationFrame);
      }
    })()""".replace("CONDITION", condition).replace("TEXT", json.dumps(condition))


def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript expression; wait_for_function needs `eval`, which the CSP forbids."""
    page.evaluate(once(condition))


def until_all_are_sent(page: Page) -> None:
    """Wait until the page has sent every decision.

    The timeout restarts with each, as many decisions take long on a busy machine.
    """
    waiting = "Object.keys(localStorage).filter(name => name.startsWith('winnow:outbox:')).length"
    while left := page.evaluate(waiting):
        until(page, f"{waiting} < {left}")


def status(page: Page) -> Locator:
    return page.locator("[data-part=status]")


def said(page: Page) -> Locator:
    return page.locator("[data-part=say]")


class Server:
    """The review as the database has it."""

    def __init__(self, database: Database, review: Review) -> None:
        self._database = database
        self._review = review

    def queue(self) -> list[Suggestion]:
        with self._database.transaction(write=False) as session:
            return list(queue_of(session, self._review))

    def decisions(self) -> dict[int, str]:
        """Return decisions by position."""
        return {row.position: row.decision for row in self.queue() if row.decision is not None}

    def wait_for(self, wanted: Any, read: Callable[["Server"], Any] | None = None) -> None:
        """Poll until the decisions (or the result of `read`) are these.

        The page shows a decision before the server has it. Playwright's handlers pause meanwhile.
        """
        reading = read or Server.decisions
        before, deadline = object(), 0.0
        while (found := reading(self)) != wanted:
            if found != before:  # patience begins again with each decision
                before, deadline = found, time.monotonic() + 15
            assert time.monotonic() < deadline, f"the server has {found}, not {wanted}"
            time.sleep(0.05)
