"""A real Chromium and server; page errors, exceptions and CSP violations fail the test."""

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from backend.accounts import service as accounts
from backend.accounts.dependencies import COOKIE
from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from tests.browser.reviewing import Server
from tests.reviewing import a_ready_review

# Long, because several tests may share few cores; a page that is right passes at once.
PATIENCE = 15_000
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names that are not this machine's own: over plain HTTP such pages send no Sec-Fetch-Site.
    "--host-resolver-rules=MAP *.test 127.0.0.1",
)
expect.set_options(timeout=PATIENCE)


def chromium_path() -> str:
    """The Chromium named by WINNOW_CHROMIUM, the choice of `make test`, or the system's."""
    noted = Path(sys.prefix) / ".browser"
    for path in (
        os.environ.get("WINNOW_CHROMIUM", ""),
        noted.read_text().strip() if noted.exists() else "",
        "/usr/bin/chromium",
    ):
        if path and os.access(path, os.X_OK):
            return path
    pytest.fail(
        "There is no Chromium. Install it, or set WINNOW_CHROMIUM to one; `make test` does that "
        "by itself."
    )


# For the folder, no longer: Playwright keeps its event loop in the main thread while it runs.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=chromium_path(), args=list(CHROMIUM_ARGS)
        )
        yield chromium
        chromium.close()


@dataclass
class PageErrors:
    """Errors in a test's pages. `expect` names those that the test provokes."""

    found: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(f"uncaught: {error.error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.found.append(f"{message.text} ({message.location})")

    def expect(self, pattern: str) -> None:
        """Expect errors that match this regular expression."""
        self.expected.append(pattern)

    def surprises(self) -> list[str]:
        return [
            text
            for text in self.found
            if not any(re.search(pattern, text) for pattern in self.expected)
        ]


@pytest.fixture
def page_errors() -> PageErrors:
    return PageErrors()


@pytest.fixture
def open_page(browser: Browser, page_errors: PageErrors) -> Iterator[Callable[..., Page]]:
    """open_page(base_url, **options of new_context): a page in its own context."""
    contexts: list[BrowserContext] = []

    def opened(base_url: str, **options: Any) -> Page:
        context = browser.new_context(base_url=base_url, **options)
        context.set_default_timeout(PATIENCE)
        page_errors.watch(context)
        contexts.append(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
    assert page_errors.surprises() == []


@pytest.fixture
def live_server(app: FastAPI) -> Iterator[str]:
    """The application on a free port of this machine; its address, without a slash at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the web did not start"
        assert time.monotonic() < deadline, "the web did not start in time"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive(), "the web did not stop"


@pytest.fixture
def login_link(database: Database) -> Callable[[User], str]:
    """login_link(user): the address of a page whose button signs that person in, once."""

    def link(user: User) -> str:
        with database.transaction() as session:
            return f"/?token={accounts.issue_login_link(session, user)}"

    return link


@pytest.fixture
def visit(
    live_server: str, open_page: Callable[..., Page], database: Database
) -> Callable[..., Page]:
    """visit(user, **options of new_context): that person's browser, signed in.

    live_server comes first, so that it stops last: pages ask it for news until their end.
    """

    def visited(user: User, **options: Any) -> Page:
        page = open_page(live_server, **options)
        with database.transaction() as session:
            link = accounts.issue_login_link(session, user)
            secret = accounts.sign_in(session, link, 1)
        page.context.add_cookies([{"name": COOKIE, "value": secret, "url": live_server}])
        page.goto("/datasets")
        return page

    return visited


@pytest.fixture
def page(visit: Callable[..., Page], owner: User) -> Page:
    """The owner's browser, signed in."""
    return visit(owner)


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """42 suggestions of the classes left, middle and right."""
    with database.transaction() as session:
        return a_ready_review(session, storage)


@pytest.fixture
def server(database: Database, review: Review) -> Server:
    return Server(database, review)
