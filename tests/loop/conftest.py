"""A running Winnow on SQLite with its embedded broker, and another on PostgreSQL and Redis."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import servers

# Fixtures: a real Chromium, and pages whose errors fail the test.
from tests.browser.conftest import browser, open_page, page_errors  # noqa: F401 - fixtures
from tests.browser.reviewing import follow
from tests.loop.api import Api
from tests.loop.archives import an_archive
from tests.loop.looking import WIDE
from tests.running import Winnow


@pytest.fixture(
    scope="package", params=["embedded", pytest.param("servers", marks=pytest.mark.postgres)]
)
def winnow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Winnow]:
    """Start it once for this folder; each test imports data sets of its own."""
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        own = {}
        if request.param == "servers":
            own = {
                "database_url": stack.enter_context(servers.postgres()),
                "broker_url": stack.enter_context(servers.redis()),
            }
        winnow = Winnow(home, **own)
        stack.callback(winnow.close)
        yield winnow


@pytest.fixture(scope="module")
def api(winnow: Winnow) -> Iterator[Api]:
    """The owner's program, with a token of its own, made over REST."""
    answer = winnow.client.post("/tokens", json={"name": "the whole loop"})
    assert answer.status_code == 201, answer.text
    with Api(winnow.address, answer.json()["secret"]) as api:
        yield api


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small zip of class folders with files that are no images among them."""
    return an_archive(tmp_path_factory.mktemp("archive") / "Ripe and unripe.zip")


@pytest.fixture
def page(winnow: Winnow, open_page: Callable[..., Page]) -> Page:  # noqa: F811 - a fixture
    """The owner's browser, signed in by a login link."""
    page = open_page(winnow.address, viewport=WIDE)
    follow(page, winnow.login_link())
    expect(page).to_have_url(f"{winnow.address}/datasets")
    return page
