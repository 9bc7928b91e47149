"""Swiping decides, with a preview and undo; scrolling and zooming stay the browser's."""

from collections.abc import Callable

import pytest
from playwright.sync_api import CDPSession, Page, expect

from backend.core.models import Review, User
from tests.browser.reviewing import Server, at_rank, open_focus, open_grid, until

pytestmark = pytest.mark.browser


@pytest.fixture
def tablet(visit: Callable[..., Page], owner: User) -> Page:
    return visit(owner, viewport={"width": 800, "height": 1100}, has_touch=True, is_mobile=True)


class Finger:
    """Touches as the browser's input layer sees them: it may take them for scrolling."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._session: CDPSession = page.context.new_cdp_session(page)
        box = page.locator("[data-part=image]").bounding_box()
        assert box is not None
        self.x, self.y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def send(self, kind: str, *points: tuple[float, float]) -> None:
        touches = [
            {"x": self.x + x, "y": self.y + y, "id": number} for number, (x, y) in enumerate(points)
        ]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def down(self) -> None:
        self.send("touchStart", (0, 0))

    def move(self, x: float, y: float) -> None:
        for part in range(1, 6):
            self.send("touchMove", (x * part / 5, y * part / 5))

    def up(self) -> None:
        self.send("touchEnd")

    def swipe(self, x: float, y: float) -> None:
        self.down()
        self.move(x, y)
        self.up()


@pytest.fixture
def finger(tablet: Page, review: Review) -> Finger:
    open_focus(tablet, review)
    return Finger(tablet)


@pytest.mark.parametrize(
    ("way", "action"), [((-160, 10), "remove"), ((160, -20), "keep"), ((15, -160), "unsure")]
)
def test_a_swipe_decides_and_shows_the_next_image(
    finger: Finger, server: Server, way: tuple[int, int], action: str
) -> None:
    finger.swipe(*way)
    at_rank(finger.page, 2)
    server.wait_for({1: action})
    assert finger.page.evaluate("scrollY") == 0


def test_a_swipe_says_what_letting_go_would_do_and_going_back_takes_it_back(
    finger: Finger, server: Server
) -> None:
    stage = finger.page.locator("[data-part=stage]")
    finger.down()
    finger.send("touchMove", (-20, 0))
    finger.send("touchMove", (-60, 0))
    expect(stage).to_have_attribute("data-swipe", "Remove")
    expect(stage).to_have_attribute("data-armed", "")
    finger.send("touchMove", (-120, 0))
    expect(stage).to_have_attribute("data-armed", "yes")
    finger.send("touchMove", (-10, 0))
    finger.up()
    expect(stage).to_have_attribute("data-swipe", "")
    at_rank(finger.page, 1)
    assert server.decisions() == {}
    finger.swipe(160, 0)
    server.wait_for({1: "keep"})


def test_two_fingers_zoom_and_decide_nothing(finger: Finger, server: Server) -> None:
    finger.send("touchStart", (0, 0))
    finger.send("touchStart", (0, 0), (40, 0))
    for far in (60, 120, 180):
        finger.send("touchMove", (-far, 0), (far, 0))
    finger.up()
    expect(finger.page.locator("[data-part=stage]")).to_have_attribute("data-swipe", "")
    assert server.decisions() == {}
    expect(finger.page.locator("[data-part=window]")).to_have_attribute("data-zoomed", "yes")
    # Enlarged, a finger moves the picture about.
    finger.swipe(160, 0)
    assert server.decisions() == {}


def test_a_finger_that_scrolls_beside_the_picture_decides_nothing(
    finger: Finger, server: Server
) -> None:
    box = finger.page.locator(".focus__signals").bounding_box()
    assert box is not None
    finger.x, finger.y = box["x"] + box["width"] / 2, box["y"]
    finger.swipe(0, -200)
    until(finger.page, "scrollY > 0")
    at_rank(finger.page, 1)
    assert server.decisions() == {}


def test_a_gesture_from_the_edge_is_the_systems(
    visit: Callable[..., Page], owner: User, review: Review, server: Server
) -> None:
    page = visit(owner, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    open_focus(page, review)
    finger = Finger(page)
    finger.x = 20
    finger.swipe(200, 0)
    at_rank(page, 1)
    assert server.decisions() == {}


def test_a_mouse_drags_no_decision(page: Page, review: Review, server: Server) -> None:
    open_focus(page, review)
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(600, 300, steps=5)
    page.mouse.up()
    at_rank(page, 1)
    assert server.decisions() == {}


def test_on_a_tablet_the_buttons_are_large(tablet: Page, review: Review, server: Server) -> None:
    open_focus(tablet, review)
    for name in ("Remove", "Keep", "Unsure"):
        box = tablet.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 60, name
    expect(tablet.get_by_text("Swipe:")).to_be_visible()
    open_grid(tablet, review)
    for name in ("Remove", "Keep", "Unsure", "Relabel"):
        box = tablet.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["height"] >= 44, name
    tablet.locator(".tile__select").nth(2).tap()
    tablet.get_by_role("button", name="Remove").tap()
    server.wait_for({3: "remove"})
