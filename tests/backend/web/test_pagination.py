"""Lists by cursor: no row comes twice or is missed while others are added or deleted."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.models import DataSet, Job, JobLogLine, Refusal, Review, Run
from tests.factories import a_data_set, a_job, a_review, a_run

AddRow = Callable[[Session], object]


@dataclass
class Listing:
    """A list's address, a function that adds a row, and its table."""

    address: str
    add: AddRow
    table: type


@pytest.fixture
def data_set(database: Database) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session, per_class=4)


@pytest.fixture(
    params=["data sets", "refusals", "runs", "reviews", "jobs", "jobs of a state", "log lines"]
)
def listing(request: pytest.FixtureRequest, database: Database, data_set: DataSet) -> Listing:
    with database.transaction() as session:
        if request.param in ("data sets", "refusals"):
            if request.param == "data sets":
                return Listing(
                    "/api/v1/data-sets?", lambda s: s.add(DataSet(name="x", state="ready")), DataSet
                )
            address = f"/api/v1/data-sets/{data_set.id}/refusals?"
            return Listing(
                address,
                lambda s: s.add(Refusal(data_set_id=data_set.id, path="x", reason="y")),
                Refusal,
            )
        if request.param == "runs":
            return Listing(
                f"/api/v1/data-sets/{data_set.id}/runs?", lambda s: a_run(s, data_set), Run
            )
        if request.param == "reviews":
            run = a_run(session, data_set)
            return Listing(f"/api/v1/runs/{run.id}/reviews?", lambda s: a_review(s, run), Review)
        if request.param == "log lines":
            job = a_job(session)
            return Listing(
                f"/api/v1/jobs/{job.id}/log?",
                lambda s: s.add(JobLogLine(job_id=job.id, message="x")),
                JobLogLine,
            )
        state = "state=failed&" if "state" in request.param else ""
        return Listing(f"/api/v1/jobs?{state}", lambda s: a_job(s, state="failed"), Job)


def add(database: Database, listing: Listing, count: int) -> None:
    with database.transaction() as session:
        for _ in range(count):
            listing.add(session)
            session.flush()


def ids(database: Database, listing: Listing) -> set[int]:
    with database.transaction(write=False) as session:
        # Every table has an id.
        return set(session.scalars(select(listing.table.id)))  # type: ignore[attr-defined]


def read(
    client: TestClient, listing: Listing, limit: int, between: Callable[[], None] = lambda: None
) -> list[int]:
    """Return the ids of all rows, page by page."""
    found: list[int] = []
    after = ""
    while True:
        page = client.get(f"{listing.address}limit={limit}{after}").json()
        assert len(page["items"]) <= limit
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return found
        assert isinstance(page["next"], str)
        after = f"&after={page['next']}"
        between()


def test_pages_of_two_hold_every_row_once(
    client: TestClient, database: Database, listing: Listing
) -> None:
    for _ in range(6):
        found = read(client, listing, 2)
        assert set(found) == ids(database, listing)
        assert len(found) == len(set(found))
        assert found in (sorted(found), sorted(found, reverse=True))
        add(database, listing, 1)


def test_the_last_page_says_that_it_is_the_last_also_when_it_is_full(
    client: TestClient, database: Database, listing: Listing
) -> None:
    add(database, listing, 6)
    count = len(ids(database, listing))
    page = client.get(f"{listing.address}limit={count}").json()
    assert (len(page["items"]), page["next"]) == (count, None)


def test_rows_that_are_added_while_one_reads_neither_repeat_nor_hide_others(
    client: TestClient, database: Database, listing: Listing
) -> None:
    add(database, listing, 7)
    there_before = ids(database, listing)
    more = iter(range(6))
    found = read(
        client,
        listing,
        2,
        lambda: add(database, listing, 1) if next(more, None) is not None else None,
    )
    assert there_before <= set(found)
    assert len(found) == len(set(found))


def test_rows_that_are_deleted_while_one_reads_hide_no_others(
    client: TestClient, database: Database, listing: Listing
) -> None:
    add(database, listing, 8)
    seen_first = read(client, listing, 100)

    def delete_one_that_was_read() -> None:
        with database.transaction() as session:
            # Every table has an id.
            session.execute(delete(listing.table).where(listing.table.id == seen_first[1]))  # type: ignore[attr-defined]

    assert read(client, listing, 2, delete_one_that_was_read) == seen_first


def test_a_page_size_or_cursor_that_makes_no_sense_is_refused(
    client: TestClient, listing: Listing
) -> None:
    for query in (
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=many",
        "limit=",
        "after=soon",
        "after=1.5",
    ):
        assert client.get(f"{listing.address}{query}").status_code == 422, query


def test_behind_the_last_row_is_nothing(
    client: TestClient, database: Database, listing: Listing
) -> None:
    add(database, listing, 3)
    first = client.get(
        f"{listing.address}limit=1000"
        if "data-sets?" in listing.address
        else f"{listing.address}limit=200"
    ).json()["items"]
    page = client.get(f"{listing.address}after={first[-1]['id']}").json()
    assert page == {"items": [], "next": None}


@pytest.mark.slow
def test_the_lists_of_pages_go_on_where_the_last_one_ended(
    client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        session.add_all(DataSet(name=f"Set {number:03}", state="ready") for number in range(120))
        for number in range(120):
            a_job(session, state="done").title = f"Job {number:03}"
        assert session.scalar(select(func.count()).select_from(Job)) == 120
    for address, word in (("/datasets", "Set"), ("/jobs", "Job")):
        seen: list[str] = []
        following: str | None = address
        while following:
            text = client.get(following).text
            seen += [
                f"{word} {number:03}"
                for number in range(119, -1, -1)
                if f"{word} {number:03}<" in text
            ]
            _, found, rest = text.partition(f'href="{address}?after=')
            following = f"{address}?after={rest.partition(chr(34))[0]}" if found else None
        assert seen == [f"{word} {number:03}" for number in range(119, -1, -1)]
