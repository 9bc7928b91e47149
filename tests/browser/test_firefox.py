"""Firefox, if installed: every kind of page opens without error, fits a telephone, takes keys."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import Review, User
from backend.core.storage import Storage
from tests.browser.firefox import Firefox, firefox_path
from tests.browser.reviewing import Server, once
from tests.browser.test_accessible import TELEPHONE, worth_a_look
from tests.factories import a_data_set, a_review, a_run
from tests.world import World, a_world

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        firefox_path() is None, reason="no Firefox is installed (apt-get install firefox-esr)"
    ),
]
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def firefox(
    live_server: str, tmp_path: Path, login_link: Callable[[User], str], owner: User
) -> Iterator[Firefox]:
    """The owner's Firefox, signed in."""
    profile = tmp_path / "profile"
    profile.mkdir()
    browser = Firefox(firefox_path() or "", profile)
    browser.open(f"{live_server}{login_link(owner)}")
    browser.evaluate("document.querySelector('form .button').click()")
    browser.evaluate(once("location.pathname === '/datasets'"))
    yield browser
    browser.close()
    assert browser.errors == []


@pytest.fixture
def world(database: Database, storage: Storage, owner: User, reviewer: User) -> World:
    with database.transaction() as session:
        return a_world(session, storage, owner, reviewer)


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    with database.transaction() as session:
        return a_review(session, a_run(session, a_data_set(session, storage)))


def test_every_kind_of_page_opens_in_firefox(
    firefox: Firefox, app: FastAPI, live_server: str, client: TestClient, world: World
) -> None:
    firefox.resize(**TELEPHONE)
    for address in worth_a_look(app, world, client):
        firefox.open(f"{live_server}{address}")
        assert firefox.evaluate("document.querySelectorAll('h1').length") == 1, address
        assert firefox.evaluate(TOO_WIDE) <= 0, address
        assert firefox.errors == [], address


def test_a_key_decides_in_firefox(
    firefox: Firefox, live_server: str, database: Database, review: Review
) -> None:
    firefox.open(f"{live_server}/reviews/{review.id}/focus")
    firefox.evaluate(once("document.querySelector('[data-part=show-keys]').checkVisibility()"))
    for count, key in enumerate("eku", start=1):
        firefox.press(key)
        firefox.evaluate(
            once(f"document.querySelector('[data-count=decided]').textContent === '{count}'")
        )
        # No key decides an image that is not on the screen yet.
        firefox.evaluate(
            once(f"document.querySelector('[data-part=rank]').textContent === '{count + 1}'")
        )
    Server(database, review).wait_for({1: "remove", 2: "keep", 3: "unsure"})
