"""Corrections accepted without measuring, and measured later."""

from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from backend.cleansing import service
from backend.core.errors import Conflict, Invalid
from backend.core.models import Cleansing, DataSet, Job, Review, Run, Version
from backend.core.settings import Settings
from backend.jobs import service as jobs
from tests.backend.cleansing.test_cleansing import (
    VERDICT,
    accept,
    current_version,
    measured,
    of_class,
    roll_back,
    start,
)
from tests.cleansing_scenario import Scenario


@pytest.fixture
def settings(scenario: Scenario) -> Settings:
    return scenario.settings


@pytest.fixture
def owner(scenario: Scenario):
    return scenario.owner


@pytest.fixture
def reviewer(scenario: Scenario):
    return scenario.reviewer


def accept_unmeasured(scenario: Scenario, review_id: int | None = None) -> Cleansing:
    with scenario.database.transaction() as session:
        review = session.get_one(Review, review_id or scenario.review_id)
        return service.start(session, scenario.owner, review, fresh_seeds=3, measure=False)


def accept_without_verdict(scenario: Scenario, cleansing: Cleansing) -> Cleansing:
    with scenario.database.transaction() as session:
        found = session.get_one(Cleansing, cleansing.id)
        return service.accept(session, scenario.owner, found, without_verdict=True)


def measure(scenario: Scenario, cleansing: Cleansing, fresh_seeds: int | None = None) -> Cleansing:
    with scenario.database.transaction() as session:
        found = session.get_one(Cleansing, cleansing.id)
        return service.measure(session, scenario.owner, found, fresh_seeds)


def finish(scenario: Scenario, cleansing: Cleansing) -> None:
    """Attach a verdict, as the worker does to a version that was decided on."""
    with scenario.database.transaction() as session:
        session.execute(
            update(Cleansing).where(Cleansing.id == cleansing.id).values(verdict=VERDICT)
        )
        session.execute(update(Job).where(Job.id == cleansing.job_id).values(state="done"))


def count(scenario: Scenario, table: type) -> int:
    with scenario.database.transaction(write=False) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def state_of(scenario: Scenario, cleansing: Cleansing) -> tuple[str, str]:
    with scenario.database.transaction(write=False) as session:
        return (
            session.get_one(Cleansing, cleansing.id).state,
            session.get_one(Version, cleansing.version_id).state,
        )


def test_corrections_are_accepted_at_once_without_a_training(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = accept_unmeasured(scenario)
    assert state_of(scenario, cleansing) == ("accepted", "accepted")
    assert current_version(scenario) == cleansing.version_id
    assert (cleansing.job_id, count(scenario, Job), count(scenario, Run)) == (None, 0, 1)
    with pytest.raises(Conflict, match="was accepted"):
        accept_unmeasured(scenario)


def test_what_is_accepted_unmeasured_is_measured_later_and_stays_accepted(
    scenario: Scenario,
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = accept_unmeasured(scenario)
    for _ in range(2):  # a repeated request starts nothing twice
        waiting = measure(scenario, cleansing, fresh_seeds=4)
        assert (count(scenario, Job), count(scenario, Run)) == (1, 1 + 3 * 5)
        assert waiting.fresh_seeds == [4, 5, 6, 7]
    assert state_of(scenario, cleansing) == ("accepted", "accepted")
    finish(scenario, waiting)
    assert measure(scenario, cleansing).verdict == VERDICT
    assert count(scenario, Job) == 1
    assert roll_back(scenario, cleansing).state == "rolled_back"
    assert current_version(scenario) == scenario.version_id
    assert accept(scenario, cleansing).state == "accepted"


@pytest.mark.slow
def test_a_measurement_that_was_stopped_continues_with_its_own_trainings(
    scenario: Scenario,
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario)
    with scenario.database.transaction() as session:
        jobs.cancel(session, scenario.owner, cleansing.job_id or 0)
    assert accept_without_verdict(scenario, cleansing).state == "accepted"
    trainings = count(scenario, Run)
    again = measure(scenario, cleansing, fresh_seeds=9)
    assert (again.job_id, again.fresh_seeds) == (cleansing.job_id, cleansing.fresh_seeds)
    assert (count(scenario, Job), count(scenario, Run)) == (1, trainings)
    with scenario.database.transaction() as session:
        assert session.get_one(Job, again.job_id).state == "queued"
        # A job that was tidied away leaves its trainings, which the next job takes over.
        session.get_one(Cleansing, cleansing.id).job_id = None
    assert measure(scenario, cleansing).job_id != cleansing.job_id
    assert count(scenario, Run) == trainings


def test_a_version_is_accepted_while_it_is_measured_and_the_measuring_continues(
    scenario: Scenario,
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario)
    with pytest.raises(Conflict, match="accept the version without a verdict"):
        accept(scenario, cleansing)
    for _ in range(2):
        assert accept_without_verdict(scenario, cleansing).state == "accepted"
    with scenario.database.transaction(write=False) as session:
        assert session.get_one(Job, cleansing.job_id).state == "queued"
    # Going back needs no verdict either.
    assert roll_back(scenario, cleansing).state == "rolled_back"
    assert current_version(scenario) == scenario.version_id


def test_a_discarded_version_is_accepted_after_all(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = roll_back(scenario, accept_unmeasured(scenario))
    assert accept_without_verdict(scenario, cleansing).state == "accepted"


@pytest.mark.slow
def test_of_two_versions_only_the_next_in_line_is_accepted_unmeasured(scenario: Scenario) -> None:
    zeros = of_class(scenario, 0)
    scenario.decide(zeros[:3])
    first = measured(scenario, start(scenario))
    second = measured(scenario, start(scenario))
    accept(scenario, first)
    with pytest.raises(Conflict, match="was accepted"):
        accept_without_verdict(scenario, second)


def test_too_few_fresh_starts_are_refused_later_too(scenario: Scenario) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = accept_unmeasured(scenario)
    with pytest.raises(Invalid, match="Choose between 3 and 10"):
        measure(scenario, cleansing, fresh_seeds=2)
    assert count(scenario, Job) == 0


@pytest.mark.slow
def test_the_pages_accept_without_measuring_and_measure_later(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    address = f"/reviews/{scenario.review_id}/clean"
    assert "Accept without measuring" in client.get(address).text
    for _ in range(2):  # a double click
        sent = client.post(address, data={"measure": "no"}, follow_redirects=False)
        assert (sent.status_code, sent.headers["location"]) == (303, "/cleansings/1")
    assert count(scenario, Version) == 2
    page = client.get("/cleansings/1").text
    for words in ("Accepted, not measured", "Measure it now", "Start the next round", "Roll back"):
        assert words in page
    assert "accepted, not measured" in client.get(address).text
    page = client.post("/cleansings/1/measure").text
    assert "Measuring whether it helps" in page
    assert "Measure it now" not in page
    with scenario.database.transaction(write=False) as session:
        cleansing = session.get_one(Cleansing, 1)
    finish(scenario, cleansing)
    assert "Accepted: version 2" in client.get("/cleansings/1").text


@pytest.mark.slow
def test_the_running_page_accepts_without_waiting(scenario: Scenario, client: TestClient) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    cleansing = start(scenario)
    assert "Accept without waiting" in client.get(f"/cleansings/{cleansing.id}").text
    page = client.post(f"/cleansings/{cleansing.id}/accept", data={"without_verdict": "true"}).text
    assert "version 2 is the data set" in page
    assert current_version(scenario) == cleansing.version_id


@pytest.mark.slow
def test_the_api_accepts_and_measures(scenario: Scenario, api_client: TestClient) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    made = api_client.post(
        f"/api/v1/reviews/{scenario.review_id}/cleansings", json={"measure": False}
    ).json()
    assert (made["state"], made["verdict"], made["job"], made["trainings"]) == (
        "accepted",
        None,
        None,
        [],
    )
    asked = api_client.post("/api/v1/cleansings/1/measure", json={"fresh_seeds": 3})
    assert (asked.status_code, asked.json()["state"]) == (202, "accepted")
    assert (asked.json()["job"]["state"], len(asked.json()["trainings"])) == ("queued", 12)
    again = api_client.post("/api/v1/cleansings/1/measure").json()
    assert (again["job"]["id"], len(again["trainings"])) == (asked.json()["job"]["id"], 12)
    assert (
        api_client.post("/api/v1/cleansings/1/measure", json={"fresh_seeds": 99}).status_code == 422
    )


@pytest.mark.slow
def test_a_waiting_verdict_is_the_next_step_on_every_page(
    scenario: Scenario, client: TestClient
) -> None:
    scenario.decide(of_class(scenario, 0)[:3])
    with scenario.database.transaction() as session:
        session.get_one(DataSet, scenario.data_set_id).state = "ready"
        run = session.get_one(Run, scenario.run_id)
        run.state, run.report = "done", {"seconds": 1.0, "stored_bytes": 10}
    pages = (
        "/datasets",
        f"/datasets/{scenario.data_set_id}",
        f"/runs/{scenario.run_id}",
        f"/reviews/{scenario.review_id}",
        f"/reviews/{scenario.review_id}/focus",
    )
    assert "Trained · 3 of 160 decided" in client.get("/datasets").text
    step = "Verdict ready: accept or roll back"
    assert not any(step in client.get(page).text for page in pages)
    cleansing = measured(scenario, start(scenario))
    for page in pages:
        text = client.get(page).text
        assert step in text, page
        shown = text.partition("<dialog")[0]
        assert shown.count("button--primary") == 1 or page == "/datasets", page
    roll_back(scenario, cleansing)
    assert not any(step in client.get(page).text for page in pages)


@pytest.mark.slow
def test_the_list_asks_the_database_equally_often_for_many_data_sets(
    scenario: Scenario, client: TestClient
) -> None:
    from sqlalchemy import event

    statements: list[str] = []
    event.listen(
        client.app.state.database.engine,  # type: ignore[attr-defined]
        "before_cursor_execute",
        lambda *given: statements.append(given[2]),
    )
    asked = []
    for _ in range(3):
        statements.clear()
        client.get("/datasets")
        asked.append(len(statements))
        with scenario.database.transaction() as session:
            for number in range(5):
                one = DataSet(name=f"More {count} {number}", state="ready", class_names=["a"])
                session.add(one)
                session.flush()
                version = Version(data_set_id=one.id, parent_id=None, number=1)
                session.add(version)
                session.flush()
                one.current_version_id = version.id
    assert all(one == other for one, other in pairwise(asked[1:]))
