"""Calm pages: no jumps while loading, errors with a way out, tidy single items."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy import update

from backend.core.db import Database
from backend.core.models import Cleansing, DataSet, RunEpoch, User
from backend.core.storage import Storage
from tests.browser.conftest import PageErrors
from tests.factories import a_data_set, a_job, a_run
from tests.world import World, a_world, an_epoch

pytestmark = pytest.mark.browser

# Layout shift after the first paint: 0 is nothing, 0.1 is a nuisance.
WATCH_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries()
    .filter((entry) => !entry.hadRecentInput)
    .map((entry) => [entry.value, entry.sources.map(({ node }) => (node?.parentElement ??
      node)?.outerHTML?.slice(0, 100)).join()])))
    .observe({ type: "layout-shift", buffered: true });
"""
# Where the words of a button begin, and where its section begins.
EDGES = """(button) => {
  const words = document.createRange();
  words.selectNodeContents(button);
  return [words.getBoundingClientRect().left,
    button.closest("section").getBoundingClientRect().left];
}"""
POINTS = (
    "(canvas) => globalThis.Chart?.getChart(canvas)?.getDatasetMeta(1).data.map((point) => "
    "point.options.radius) ?? []"
)
TICKS = (
    "(canvas) => globalThis.Chart?.getChart(canvas)?.scales.y.ticks.map((tick) => tick.label) ?? []"
)


@pytest.fixture
def data_set(database: Database, storage: Storage) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session, storage)


@pytest.fixture
def world(database: Database, storage: Storage, owner: User, reviewer: User) -> World:
    with database.transaction() as session:
        return a_world(session, storage, owner, reviewer)


def test_nothing_jumps_while_a_page_loads(page: Page, world: World) -> None:
    page.add_init_script(WATCH_SHIFTS)
    measured, done = world.ids["cleansing_id"][-5], world.ids["run_id"][5]
    for address in (
        "/datasets",
        "/datasets/1",
        f"/runs/{done}",
        f"/cleansings/{measured}",
        "/jobs",
    ):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)  # the charts draw a frame later
        found = page.evaluate("window.shifts")
        assert sum(value for value, _ in found) < 0.01, (address, found)


def test_a_training_of_one_epoch_is_a_dot_one_can_see(
    page: Page, database: Database, data_set: DataSet
) -> None:
    with database.transaction() as session:
        run = a_run(session, session.merge(data_set))
        an_epoch(session, run, 1)
    page.goto(f"/runs/{run.id}")
    chart = page.locator("canvas[data-part=accuracy]")
    for _ in range(100):
        if radii := chart.evaluate(POINTS):
            break
        page.wait_for_timeout(50)
    assert [radius >= 2 for radius in radii] == [True]


def test_the_axes_of_a_curve_have_short_numbers(
    page: Page, database: Database, data_set: DataSet
) -> None:
    with database.transaction() as session:
        run = a_run(session, session.merge(data_set))
        an_epoch(session, run, 1, validation=1.699)
        session.flush()
        session.execute(
            update(RunEpoch).values(train_loss=1.922)
        )  # between the two, steps of 0.05 are 1.7500000000000002 and the like
    page.goto(f"/runs/{run.id}")
    for name, longest in (("loss", 4), ("accuracy", 5)):
        canvas = page.locator(f"canvas[data-part={name}]")
        for _ in range(100):
            if words := canvas.evaluate(TICKS):
                break
            page.wait_for_timeout(50)
        assert len(words) > 2
        assert max(map(len, words)) <= longest, words


def test_while_a_training_runs_its_epochs_come_as_curves_and_as_rows(
    page: Page, database: Database, data_set: DataSet
) -> None:
    with database.transaction() as session:
        run = a_run(session, session.merge(data_set), state="queued")
        run.job_id = a_job(session, subject_id=run.id, data_set_id=data_set.id, state="running").id
    page.goto(f"/runs/{run.id}")
    expect(page.locator("[data-part=latest]")).to_have_text(
        "The curves start after the first epoch."
    )
    for epoch in (1, 2):
        with database.transaction() as session:
            an_epoch(session, run, epoch)
        expect(page.locator("[data-part=latest]")).to_have_text(f"After epoch {epoch}.")
    page.get_by_text("The numbers").click()
    rows = page.locator("[data-part=rows] tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_have_text("20.7550.0\u00a0%0.550.0\u00a0%0.000010.2 s")


def test_a_quiet_button_begins_where_the_lines_above_it_begin(
    page: Page, database: Database, data_set: DataSet
) -> None:
    with database.transaction() as session:
        job = a_job(session, data_set_id=data_set.id)
    page.goto(f"/jobs/{job.id}")
    words, section = page.get_by_role("button", name="Cancel").evaluate(EDGES)
    assert abs(words - section) <= 1


def test_an_empty_filter_says_of_what_there_is_nothing(page: Page) -> None:
    page.goto("/jobs?state=failed")
    expect(page.locator(".empty__title")).to_have_text("No failed jobs")


def test_an_upload_that_breaks_off_is_told_as_an_error(page: Page, page_errors: PageErrors) -> None:
    page_errors.expect("ERR_FAILED|ERR_CONNECTION")
    page.goto("/datasets")
    page.route(
        "**/datasets",
        lambda route: route.abort() if route.request.method == "POST" else route.continue_(),
    )
    page.get_by_label("Zip file", exact=True).set_input_files(
        {"name": "a.zip", "mimeType": "application/zip", "buffer": b"PK"}
    )
    page.locator("form", has_text="A zip file").get_by_role("button", name="Import").click()
    status = page.get_by_role("status")
    expect(status).to_have_text("The connection broke. Nothing was imported. Try again.")
    expect(status).to_have_class("notice notice--error")
    expect(page.get_by_role("progressbar", name="Upload")).to_be_hidden()


def test_every_error_page_has_the_menu_and_a_way_out(
    app: FastAPI,
    visit: Callable[..., Page],
    reviewer: User,
    data_set: DataSet,
    page_errors: PageErrors,
) -> None:
    page_errors.expect("status of [45]")

    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("on purpose")

    page = visit(reviewer)
    ways = {
        "/nowhere": "Go to the data sets",
        "/datasets/99": "Go to the data sets",
        f"/datasets/{data_set.id}/runs/new": "Go to the data sets",
        "/jobs?state=asleep": "The same page without these settings",
        "/breaks": "Try again",
    }
    for address, way in ways.items():
        page.goto(address)
        expect(page.get_by_role("alert")).to_have_count(1)
        expect(page.get_by_role("link", name=way)).to_be_visible()
        if address != "/breaks":  # the unforeseen error may be that no user can be looked up
            expect(page.get_by_role("navigation", name="Main")).to_contain_text("rita")
    page.goto("/jobs?state=asleep")
    page.get_by_role("link", name="The same page without these settings").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")


# A button's distances from its box's edges, and its words' distance from the middle.
ROOM = """(button) => {
  const words = document.createRange();
  words.selectNodeContents(button);
  const [inner, outer, text] = [button, button.closest("details"), words].map((one) =>
    one.getBoundingClientRect());
  const off = (text.top + text.bottom - inner.top - inner.bottom) / 2;
  return [inner.left - outer.left, outer.bottom - inner.bottom, Math.abs(off)];
}"""


def test_the_floor_is_explained_and_its_button_has_room_around_it(page: Page, world: World) -> None:
    page.goto(f"/reviews/{world.ids['review_id'][-1]}/clean")
    expect(
        page.get_by_text("The floor is the least number of training images that a class keeps")
    ).to_be_visible()
    page.get_by_text("Change the floor").click()
    left, below, off = page.get_by_role("button", name="Show what this does").evaluate(ROOM)
    assert left >= 12
    assert below >= 12
    assert off <= 2


# The marks of the fresh starts, and the plot's edges, in pixels.
MARKS = """(canvas) => {
  const chart = globalThis.Chart?.getChart(canvas);
  if (!chart) return null;
  const { left, right, top, bottom } = chart.chartArea;
  const marks = chart.data.datasets.flatMap((_, at) =>
    chart.getDatasetMeta(at).data.map(({ x, y }) => [x, y]));
  return { marks, left, right, top, bottom, names: chart.scales.x.ticks.map((tick) => tick.label) };
}"""


def test_fresh_starts_with_equal_values_do_not_hide_each_other(
    visit: Callable[..., Page], owner: User, database: Database, world: World
) -> None:
    number = world.ids["cleansing_id"][-5]
    with database.transaction() as session:
        cleansing = session.get_one(Cleansing, number)
        runs = [
            {"seed": seed, "arm": arm, "accuracy": 0.9, "loss": 0.1}
            for seed in (4, 5, 6)
            for arm in ("before", "cleaned", "random")
        ]
        fresh = cleansing.verdict["fresh_seeds"] | {"seeds": [4, 5, 6], "runs": runs}
        cleansing.verdict = cleansing.verdict | {"fresh_seeds": fresh}
    page = visit(owner, viewport={"width": 360, "height": 740})
    page.goto(f"/cleansings/{number}")
    page.wait_for_load_state("networkidle")
    found = page.locator("canvas[data-part=dots]").evaluate(MARKS)
    marks = sorted(found["marks"])
    assert len(marks) == 9
    assert found["names"] == ["Seed 4", "Seed 5", "Seed 6"]
    # A mark is twelve pixels wide.
    assert all(other - one >= 12 for (one, _), (other, _) in pairwise(marks))
    assert marks[0][0] - found["left"] >= 12
    assert found["right"] - marks[-1][0] >= 12
    assert all(found["top"] + 6 <= y <= found["bottom"] - 6 for _, y in marks)
