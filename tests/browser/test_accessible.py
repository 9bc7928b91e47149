"""axe finds no violation on any page: a light laptop and a dark telephone, all unfolded."""

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from backend.core.db import Database
from backend.core.models import User
from backend.core.storage import Storage
from tests.backend.web.test_every_page import filled, pages
from tests.browser.conftest import PageErrors
from tests.world import World, a_world

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LAPTOP, TELEPHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
# Every rule of axe that is not an experiment, those that are mere good practice included.
EVERYTHING: dict[str, Any] = {"resultTypes": ["violations"]}
# What depends on the screen or on the colours; names, roles and structure are the same on each.
LOOKS = ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"]
SETTINGS = [
    (LAPTOP, "light", EVERYTHING),
    (TELEPHONE, "dark", EVERYTHING | {"runOnly": LOOKS}),
]
UNFOLD = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@pytest.fixture
def world(database: Database, storage: Storage, owner: User, reviewer: User) -> World:
    with database.transaction() as session:
        return a_world(session, storage, owner, reviewer)


class Pieces(HTMLParser):
    """Describe a page: each element with its classes and the names of its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = dict(attributes)
        self.found.add((tag, known.get("class") or "", known.get("role") or "", *sorted(known)))


def worth_a_look(app: FastAPI, world: World, client: TestClient) -> Iterator[str]:
    """Select addresses whose pages have something new: each kind in each of its states."""
    seen: set[tuple[str, ...]] = set()
    for path in pages(app):
        first = True
        for address in filled(path, world):
            answer = client.get(address, follow_redirects=False)
            whole = answer.status_code == 200 and answer.text.startswith("<!doctype html>")
            if not whole:
                continue
            found = Pieces(answer.text).found
            if first or not found <= seen:
                yield address
            first = False
            seen |= found


def check(page: Page, axe: Axe, where: str) -> list[str]:
    """Return axe's violations in each setting, a line an element."""
    objections = []
    for screen, scheme, options in SETTINGS:
        page.set_viewport_size(screen)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(UNFOLD)
        for violation in axe.run(page, options=options).response["violations"]:
            for node in violation["nodes"][:3]:
                objections.append(
                    f"{where} ({screen['width']}, {scheme}): {violation['id']}: "
                    f"{node['html'][:160]} — {node['failureSummary'][:300]}"
                )
    return objections


def test_axe_objects_to_nothing_on_any_page(
    app: FastAPI, visit: Callable[..., Page], client: TestClient, owner: User, world: World
) -> None:
    page, axe = visit(owner, reduced_motion="reduce"), Axe()
    addresses = list(worth_a_look(app, world, client))
    assert len(addresses) > 20
    objections = []
    for address in addresses:
        page.goto(address)
        objections += check(page, axe, address)
    assert not objections, "\n".join(objections)


def test_axe_objects_to_nothing_in_the_dialog_of_keys(
    visit: Callable[..., Page], owner: User, world: World
) -> None:
    page, axe, objections = visit(owner), Axe(), []
    review = world.ids["review_id"][-1]
    for address in (f"/reviews/{review}", f"/reviews/{review}/focus"):
        page.goto(address)
        page.locator("[data-part=show-keys]").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        objections += check(page, axe, f"{address} with its keys")
    assert not objections, "\n".join(objections)


def test_axe_objects_to_nothing_where_something_went_wrong(
    visit: Callable[..., Page],
    open_page: Callable[..., Page],
    live_server: str,
    reviewer: User,
    world: World,
    page_errors: PageErrors,
) -> None:
    page_errors.expect("status of 4")
    page, axe, objections = visit(reviewer), Axe(), []
    data_set = world.ids["data_set_id"][0]
    for address in ("/nowhere", "/jobs?state=asleep", f"/datasets/{data_set}/runs/new"):
        page.goto(address)
        objections += check(page, axe, address)
    stranger = open_page(live_server)
    for address in ("/login", "/datasets", "/?token=used"):
        stranger.goto(address)
        objections += check(stranger, axe, f"{address}, signed out")
    assert not objections, "\n".join(objections)
