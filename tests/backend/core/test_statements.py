"""The number of a page's statements must not depend on the rows that it shows."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select

from backend.accounts import service as accounts
from backend.core.db import Database
from backend.core.models import Cleansing, DataSet, Image, JobLogLine, Refusal, Run, User, Version
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.world import a_verdict, an_epoch, job_in


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that were sent meanwhile."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


class Shop:
    """A data set with some of everything that pages list, and more on demand."""

    def __init__(self, database: Database, storage: Storage, owner: User) -> None:
        self.database, self.owner = database, owner
        with database.transaction() as session:
            data_set = a_data_set(session, storage, class_names=("a", "b"), per_class=80)
            run = a_run(session, data_set)
            review = a_review(session, run)
            job = a_job(session, subject_id=run.id, data_set_id=data_set.id, state="done")
            run.job_id = job.id
            cleansing = Cleansing(
                data_set_id=data_set.id,
                review_id=review.id,
                run_id=run.id,
                parent_version_id=run.version_id,
                version_id=run.version_id,
            )
            image = session.scalars(select(Image).where(Image.split == "test")).first()
            assert image is not None
            cleansing.state, cleansing.verdict = "measured", a_verdict("improved", image)
            session.add(cleansing)
            session.flush()
            self.data_set, self.run, self.review, self.job, self.cleansing = (
                data_set.id,
                run.id,
                review.id,
                job.id,
                cleansing.id,
            )
        self.grow()

    def grow(self, times: int = 1) -> None:
        """More of everything."""
        with self.database.transaction() as session:
            data_set, run = session.get_one(DataSet, self.data_set), session.get_one(Run, self.run)
            for _ in range(times):
                self._grow(session, data_set, run)

    # session: a Session.
    def _grow(self, session, data_set: DataSet, run: Run) -> None:  # type: ignore[no-untyped-def]
        importing = DataSet(name="soon", source={"kind": "sample"})
        session.add(importing)
        session.flush()
        job_in(session, "running", kind="import", subject_id=importing.id, data_set_id=importing.id)
        another = a_run(session, data_set)
        another.job_id = job_in(session, "done", subject_id=another.id, data_set_id=data_set.id).id
        last = max(
            session.scalars(select(Version.number).where(Version.data_set_id == data_set.id))
        )
        session.add(
            Version(data_set_id=data_set.id, number=last + 1, parent_id=data_set.current_version_id)
        )
        session.add(Refusal(data_set_id=data_set.id, path="x", reason="y"))
        session.add(JobLogLine(job_id=self.job, message="x"))
        an_epoch(session, run, session.query(Run).count() + 10)
        more = a_review(session, run)
        more.job_id = job_in(
            session, "done", kind="score", subject_id=more.id, data_set_id=data_set.id
        ).id
        accounts.create_token(session, self.owner, "more")


@pytest.fixture
def shop(database: Database, storage: Storage, owner: User) -> Shop:
    return Shop(database, storage, owner)


PAGES = {
    "data sets": "/datasets",
    "data sets, API": "/api/v1/data-sets",
    "data set": "/datasets/{data_set}",
    "data set, API": "/api/v1/data-sets/{data_set}",
    "versions, API": "/api/v1/data-sets/{data_set}/versions",
    "changes of a version, API": "/api/v1/data-sets/{data_set}/versions/2/changes",
    "refusals, API": "/api/v1/data-sets/{data_set}/refusals",
    "runs, API": "/api/v1/data-sets/{data_set}/runs",
    "run": "/runs/{run}",
    "run, API": "/api/v1/runs/{run}",
    "epochs": "/runs/{run}/epochs",
    "reviews of a run, API": "/api/v1/runs/{run}/reviews",
    "jobs": "/jobs",
    "jobs, API": "/api/v1/jobs",
    "job": "/jobs/{job}",
    "log, API": "/api/v1/jobs/{job}/log",
    "account": "/account",
    "cleansing": "/cleansings/{cleansing}",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_as_often_for_many_rows_as_for_few(
    client: TestClient, shop: Shop, database: Database, page: str
) -> None:
    address = PAGES[page].format(**vars(shop))
    client.get(address)  # Winnow knows the sender from here on
    with counted(database) as few:
        short = client.get(address)
    shop.grow(5)
    with counted(database) as many:
        long = client.get(address)
    assert (short.status_code, long.status_code) == (200, 200)
    assert len(long.content) >= len(short.content)
    assert len(many) == len(few), "\n".join(many)
    assert len(many) <= 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "address", ["/reviews/{}?size={}", "/api/v1/reviews/{}/suggestions?limit={}"]
)
def test_the_review_asks_as_often_for_a_hundred_images_as_for_twenty_five(
    client: TestClient, shop: Shop, database: Database, address: str
) -> None:
    asked = []
    client.get(address.format(shop.review, 25))  # Winnow knows the sender from here on
    for size in (25, 100):
        with counted(database) as statements:
            assert client.get(address.format(shop.review, size)).status_code == 200
        asked.append(len(statements))
    assert asked[0] == asked[1]


def test_a_supervisor_that_asks_for_health_costs_one_small_statement(
    anonymous_client: TestClient, database: Database
) -> None:
    with counted(database) as statements:
        assert anonymous_client.get("/health").json() == {"status": "ok"}
    assert [
        statement for statement in statements if not statement.startswith(("BEGIN", "PRAGMA"))
    ] == ["SELECT 1"]


@pytest.mark.slow
def test_following_a_job_asks_twice_a_second_and_no_more_than_it_must(
    client: TestClient, shop: Shop, database: Database
) -> None:
    """The user and the job: a page with a running job requests this every second."""
    address, headers = f"/jobs/{shop.job}/progress", {"HX-Request": "true"}
    client.get(address, headers=headers)  # Winnow knows the sender from here on
    with counted(database) as statements:
        client.get(address, headers=headers)
    assert sum(statement.startswith("SELECT") for statement in statements) == 2
