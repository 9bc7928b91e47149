"""Choosing a method by meaning and cost, its trust, and the reasons, in a real Chromium."""

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from backend.core.catalogue import METHODS
from backend.core.db import Database
from backend.core.models import Explanation, Image, Job, Review, Run, Scoring
from backend.core.storage import Storage
from tests.browser.reviewing import Server, open_focus, press
from tests.reviewing import a_ready_review, queue_of

pytestmark = pytest.mark.browser

COST = {
    "passes": 12.0,
    "seconds": 12.3,
    "memory_bytes": 3_000_000,
    "stored_bytes": 5_000_000,
    "damping_seconds": 90.0,
}


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    """A review whose run knows the methods' costs, and whose scoring has a judgement on trust."""
    with database.transaction() as session:
        review = a_ready_review(session, storage)
        run = session.get_one(Run, review.run_id)
        run.report = run.report | {
            "costs": {
                name: {"last_epoch": COST, "all_epochs": COST | {"seconds": 240.0}}
                for name in METHODS
            }
        }
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        scoring.report = scoring.report | {
            "trust": ["Without the first 3 images: the prediction holds."],
            "warns": False,
        }
        return review


def explain(database: Database, review: Review, position: int) -> list[str]:
    """Explain like the worker: two validation images worse, one better; returns thumbnail names."""
    with database.transaction() as session:
        image_id = queue_of(session, review)[position - 1].image_id
        wanted = (
            select(Image)
            .where(Image.data_set_id == review.data_set_id, Image.split == "validation")
            .order_by(Image.id)
        )
        images = session.scalars(wanted.offset(position).limit(3)).all()
        ids = [image.id for image in images]
        session.merge(
            Explanation(
                review_id=review.id, image_id=image_id, state="done", worse=ids[:2], better=ids[2:]
            )
        )
        return [image.content_hash for image in images]


def shown(page: Page, side: str) -> list[str]:
    """Return the names of the pictures on a side."""
    sources = page.locator(f"[data-part=why-{side}] img").evaluate_all(
        "images => images.map((image) => image.src)"
    )
    return [source.rsplit("/", 1)[1].removesuffix(".webp") for source in sources]


def test_a_method_is_chosen_by_its_meaning_and_its_cost(
    page: Page, review: Review, database: Database
) -> None:
    page.goto(f"/runs/{review.run_id}")
    page.get_by_text("How sure is this?").click()
    expect(page.get_by_text("Without the first 3 images: the prediction holds.")).to_be_visible()
    page.get_by_text("Look again, by another method").click()
    expect(page.get_by_text(METHODS["outlier"].meaning)).to_be_visible()
    expect(page.locator('[data-cost="outlier"]')).to_contain_text("about 12 s, 3.0 MB of memory")
    expect(page.locator('[data-cost="tracin"]')).to_contain_text(
        "about 12 s for the last epoch, about 4 min 0 s for all"
    )
    page.locator('input[name="method"][value="outlier"]').check()
    page.get_by_label("Average over").select_option("3")
    page.get_by_role("button", name="Find harmful images").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Finding harmful images")
    expect(page.get_by_text("They are averaged over 3 trainings")).to_be_visible()
    expect(page.locator(".job-progress")).to_have_count(3)
    with database.transaction(write=False) as session:
        newest = session.scalars(select(Review).order_by(Review.id.desc())).first()
        assert newest is not None
        assert (newest.method, newest.job_id) == ("outlier", None)


def test_the_reasons_come_with_each_image_and_hold_no_decision_up(
    page: Page, review: Review, database: Database
) -> None:
    first = explain(database, review, 1)
    second = explain(database, review, 2)
    held: list[object] = []
    page.route("**/why", lambda route: held.append(route))
    open_focus(page, review)
    assert (shown(page, "worse"), shown(page, "better")) == (first[:2], first[2:])
    expect(page.get_by_role("heading", name="It makes these worse")).to_be_visible()
    press(page, "k")
    # The next image is there although its reasons are not.
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    expect(page.get_by_role("heading", name="It makes these worse")).to_be_hidden()
    press(page, "e")
    expect(page.locator("[data-part=rank]")).to_have_text("3")
    Server(database, review).wait_for({1: "keep", 2: "remove"})
    page.unroute("**/why")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-part=rank]")).to_have_text("2")
    expect(page.get_by_role("heading", name="It makes these worse")).to_be_visible()
    assert (shown(page, "worse"), shown(page, "better")) == (second[:2], second[2:])


def test_what_is_not_worked_out_is_asked_for_and_appears_by_itself(
    page: Page, review: Review, database: Database
) -> None:
    open_focus(page, review)
    expect(page.locator("[data-part=why-sentence]")).to_have_text(
        "Being computed; it takes a moment."
    )
    with database.transaction(write=False) as session:
        assert [job.state for job in session.scalars(select(Job).where(Job.kind == "explain"))] == [
            "queued"
        ]
    first = explain(database, review, 1)
    expect(page.get_by_role("heading", name="It makes these worse")).to_be_visible()
    assert shown(page, "worse") == first[:2]


def test_without_javascript_the_reasons_that_are_there_are_shown(
    visit, owner, review: Review, database: Database
) -> None:  # type: ignore[no-untyped-def]  # fixtures
    first = explain(database, review, 1)
    page = visit(owner, java_script_enabled=False)
    page.goto(f"/reviews/{review.id}/focus?at=1")
    assert page.locator("[data-part=why-worse] img").count() == 2
    assert first[0] in (page.locator("[data-part=why-worse] img").first.get_attribute("src") or "")
    page.goto(f"/reviews/{review.id}/focus?at=2")
    expect(page.get_by_text("Not computed for this image yet.")).to_be_visible()
