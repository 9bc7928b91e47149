"""Names of data sets: each is given once, and jobs follow a rename."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import DataSet, Job, User
from backend.datasets import names, service
from backend.datasets.schemas import ImportOptions, Source
from backend.review.insight import explanations, maps
from backend.runs import service as runs
from backend.runs.schemas import RunOptions, ScoringOptions
from tests.factories import a_data_set, a_run
from tests.reviewing import a_map, a_ready_review, queue_of

API = "/api/v1/data-sets"


def an_import(database: Database, owner: User, name: str, seed: int = 0) -> DataSet:
    with database.transaction() as session:
        source = Source(kind="zip", path=f"/data/{name}.zip")
        return service.create_import(session, owner, source, ImportOptions(name=name, seed=seed))


@pytest.mark.slow
def test_a_taken_name_gets_a_number_and_the_page_says_so(
    client: TestClient, database: Database, owner: User
) -> None:
    found = [an_import(database, owner, name, seed) for seed, name in enumerate(["clothing"] * 3)]
    assert [data_set.name for data_set in found] == ["clothing", "clothing 2", "clothing 3"]
    reason = "There is another data set called “clothing”, so this one is “clothing 2”."
    assert reason in client.get(f"/datasets/{found[1].id}").text
    assert "There is another" not in client.get(f"/datasets/{found[0].id}").text
    client.post(f"/datasets/{found[1].id}/rename", data={"name": "shirts"})
    assert "There is another" not in client.get(f"/datasets/{found[1].id}").text


@pytest.mark.parametrize(
    ("taken", "asked", "given"),
    [
        (("Clothing",), "CLOTHING", "CLOTHING 2"),
        (("a", "a 2", "a 3"), "a", "a 4"),
        (("a 2",), "a 2", "a 2 2"),
        (("x" * 200,), "x" * 200, "x" * 198 + " 2"),
        (("Straße",), "STRASSE", "STRASSE 2"),
    ],
)
def test_a_unique_name_is_found_whatever_is_taken(
    database: Database, taken: tuple[str, ...], asked: str, given: str
) -> None:
    with database.transaction() as session:
        session.add_all(DataSet(name=name) for name in taken)
        session.flush()
        assert names.make_unique(session, asked) == given


def test_a_rename_to_a_taken_name_is_refused_in_a_sentence(
    client: TestClient, database: Database, owner: User
) -> None:
    first = an_import(database, owner, "clothing")
    second = an_import(database, owner, "shoes")
    sentence = "There is already a data set called Clothing. Choose another name."
    answer = client.patch(f"{API}/{second.id}", json={"name": "Clothing"})
    assert (answer.status_code, answer.json()["detail"]) == (409, sentence)
    page = client.post(f"/datasets/{second.id}/rename", data={"name": " Clothing"})
    assert page.status_code == 409
    assert sentence in page.text
    # Its own name in other letters is its own.
    assert client.patch(f"{API}/{first.id}", json={"name": "Clothing"}).status_code == 200


def test_the_titles_of_all_jobs_follow_a_rename(
    client: TestClient, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        a_map(session, review)
        data_set = session.get_one(DataSet, review.data_set_id)
        data_set.name = "a"
        runs.create(session, owner, data_set, RunOptions())
        run = a_run(session, data_set)
        runs.start_scoring(session, owner, run, ScoringOptions(runs=3))
        runs.start_scoring(session, owner, run, ScoringOptions(method="outlier"))
        first = queue_of(session, review)[0].image_id
        explanations.request_explanation(session, owner, review, first)
        maps.request_layout(session, owner, review)
        other = a_data_set(session, name="a trainer")
        runs.create(session, owner, other, RunOptions())
    client.patch(f"{API}/{data_set.id}", json={"name": "shirts, 2026"})
    with database.transaction(write=False) as session:
        titles = set(session.scalars(select(Job.title)))
    assert titles == {
        "Train on shirts, 2026, version 1",
        "Score a training on shirts, 2026 with seed 0, for an average",
        "Train on shirts, 2026 with seed 1, for an average",
        "Train on shirts, 2026 with seed 2, for an average",
        "Find harmful images in shirts, 2026",
        "Look at why, for shirts, 2026",
        "Arrange the map of shirts, 2026",
        "Train on a trainer, version 1",
    }
