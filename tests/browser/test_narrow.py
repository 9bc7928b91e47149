"""A telephone of 360 pixels: no page is wider, and no important column is out of sight."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Review, Suggestion, User, now
from backend.core.storage import Storage
from tests.browser.reviewing import open_focus
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.reviewing import a_map, a_ready_review

pytestmark = pytest.mark.browser
SCREEN = {"width": 360, "height": 740}
UNBROKEN = "Schrauben" * 20


@pytest.fixture
def numbers(database: Database, storage: Storage) -> dict[str, int]:
    """A data set with an unbroken name, its job, and a review with something decided."""
    with database.transaction() as session:
        data_set = a_data_set(session, storage, name=UNBROKEN)
        review = a_review(session, a_run(session, data_set))
        for row in session.scalars(
            select(Suggestion).where(Suggestion.review_id == review.id).limit(3)
        ):
            row.decision, row.decided_at = "remove", now()
        job = a_job(session, state="failed", data_set_id=data_set.id)
        job.title, job.error = f"Train on {UNBROKEN}", f"There is no {UNBROKEN}."
        return {"data_set": data_set.id, "review": review.id, "job": job.id}


def too_wide(page: Page) -> int:
    return int(
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


def most_lines(names: Locator) -> int:
    """The lines of the longest of these names."""
    lines = names.evaluate_all(
        "all => all.map((one) => one.clientHeight / parseFloat(getComputedStyle(one).lineHeight))"
    )
    return round(max(lines, default=0))


def out_of_sight(page: Page) -> int:
    """The first table's columns; the others scroll, with a shadow."""
    return int(
        page.locator(".table-scroll").first.evaluate(
            "(table) => table.scrollWidth - table.clientWidth"
        )
    )


def test_every_page_and_its_tables_fit_a_telephone(
    visit: Callable[..., Page], owner: User, numbers: dict[str, int]
) -> None:
    page = visit(owner, viewport=SCREEN)
    data_set = f"/datasets/{numbers['data_set']}"
    for path in (
        "/datasets",
        data_set,
        f"{data_set}/versions/1",
        "/jobs",
        f"/jobs/{numbers['job']}",
    ):
        page.goto(path)
        assert too_wide(page) <= 0, path
        assert most_lines(page.locator(".clamped, .breadcrumbs > *")) <= 2, path
    page.goto(f"/reviews/{numbers['review']}/clean")
    page.wait_for_load_state("networkidle")
    assert too_wide(page) <= 0
    assert out_of_sight(page) <= 0


def test_on_a_telephone_label_picture_and_buttons_are_on_the_screen_together(
    visit: Callable[..., Page], owner: User, review: Review
) -> None:
    page = visit(owner, viewport=SCREEN, has_touch=True, is_mobile=True)
    open_focus(page, review)
    parts = page.locator(
        "[data-part=label-name], [data-part=prediction], [data-part=window], .focus__decide"
    )
    boxes = sorted(
        parts.evaluate_all(
            "all => all.map((one) => one.getBoundingClientRect()).map(({ top, bottom }) => [top, "
            "bottom])"
        )
    )
    assert len(boxes) == 4
    edges = [edge for box in boxes for edge in box]
    assert edges == sorted(edges), "none covers another"
    assert edges[-1] <= SCREEN["height"]


def test_unbroken_class_names_make_no_page_of_a_review_wider_than_the_screen(
    visit: Callable[..., Page], owner: User, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session, storage, class_names=(UNBROKEN, f"{UNBROKEN}2", "ok"))
        a_map(session, review)
    page = visit(owner)
    for path in ("", "/focus", "/map", "/confusion", "/standing"):
        page.goto(f"/reviews/{review.id}{path}")
        page.wait_for_load_state("networkidle")
        for width in (1280, 360):
            page.set_viewport_size(SCREEN | {"width": width})
            assert too_wide(page) <= 0, (path, width)
