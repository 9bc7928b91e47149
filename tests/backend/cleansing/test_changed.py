"""The test images that a verdict changed, on page and API; and a cleansing's state in the API."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.core.db import Database
from backend.core.models import Cleansing, Image, Job, Version
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.world import a_verdict

# (label, before, cleaned): two became right, one became wrong, one stays wrong, differently.
ANSWERS = [(0, 1, 0), (1, 2, 1), (2, 2, 0), (0, 1, 2)]
BECAME = ["right", "right", "wrong", "other"]


@pytest.fixture
def images(database: Database, storage: Storage) -> list[Image]:
    """The test images of a measured cleansing, number 1."""
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=40)
        review = a_review(session, a_run(session, data_set))
        version = Version(
            data_set_id=data_set.id, parent_id=review.version_id, number=2, state="proposed"
        )
        session.add(version)
        session.flush()
        found = session.scalars(
            select(Image).where(Image.split == "test").order_by(Image.id).limit(len(ANSWERS))
        ).all()
        cleansing = Cleansing(
            data_set_id=data_set.id,
            review_id=review.id,
            run_id=review.run_id,
            parent_version_id=review.version_id,
        )
        cleansing.version_id, cleansing.state, cleansing.verdict = (
            version.id,
            "measured",
            the_verdict(list(found)),
        )
        session.add(cleansing)
        return list(found)


def the_verdict(images: list[Image]) -> dict[str, Any]:
    rows = [
        {
            "image_id": image.id,
            "label": label,
            "before": before,
            "cleaned": cleaned,
            "fresh_before": place,
            "fresh_cleaned": 1,
        }
        for place, (image, (label, before, cleaned)) in enumerate(zip(images, ANSWERS, strict=True))
    ]
    return a_verdict("improved", images[0]) | {
        "changed": [image.id for image in images],
        "changes": rows,
        "became_right": 2,
        "became_wrong": 1,
    }


def shown(page: str) -> list[str]:
    return re.findall(r'data-became="(\w+)"', page)


def test_the_api_names_each_changed_image_once_page_by_page(
    client: TestClient, images: list[Image]
) -> None:
    items, after = [], "0"
    while after is not None:
        answer = client.get(f"/api/v1/cleansings/1/changed?limit=3&after={after}").json()
        items += answer["items"]
        after = answer["next"]
    assert [(one["image_id"], one["became"]) for one in items] == list(
        zip([image.id for image in images], BECAME, strict=True)
    )
    first = items[0]
    assert (first["label_name"], first["before_name"], first["cleaned_name"]) == (
        "left",
        "middle",
        "left",
    )
    assert (first["fresh_before"], first["fresh_cleaned"]) == (0, 1)
    assert (
        client.get(first["thumbnail"]).status_code == client.get(first["full"]).status_code == 200
    )


def test_one_kind_of_change_is_shown_alone(client: TestClient, images: list[Image]) -> None:
    for kind in set(BECAME):
        answer = client.get(f"/api/v1/cleansings/1/changed?became={kind}").json()
        assert {one["became"] for one in answer["items"]} == {kind}
        assert shown(client.get(f"/cleansings/1/changed?became={kind}").text) == [
            kind
        ] * BECAME.count(kind)


def test_the_verdict_shows_the_first_ones_and_leads_to_each_kind(
    client: TestClient, images: list[Image]
) -> None:
    page = client.get("/cleansings/1").text
    assert shown(page) == BECAME
    for kind, words in (
        ("right", "Now right 2"),
        ("wrong", "Now wrong 1"),
        ("other", "Still wrong 1"),
    ):
        assert f'<a class="button" href="/cleansings/1/changed?became={kind}">{words}</a>' in page
    assert "Fresh starts that get it right: 0 of 1 before, 1 of 1 now" in page


def test_a_verdict_from_before_the_fresh_starts_were_counted_is_still_shown(
    client: TestClient, database: Database, images: list[Image]
) -> None:
    with database.transaction() as session:
        cleansing = session.get_one(Cleansing, 1)
        old = [
            {key: value for key, value in row.items() if "fresh" not in key}
            for row in cleansing.verdict["changes"]
        ]
        cleansing.verdict = {**cleansing.verdict, "changes": old}
    assert "Fresh starts that get it right" not in client.get("/cleansings/1").text
    assert client.get("/api/v1/cleansings/1/changed").json()["items"][0]["fresh_before"] is None


def test_what_cannot_be_asked_for_is_said(client: TestClient, images: list[Image]) -> None:
    assert client.get("/api/v1/cleansings/1/changed?became=purple").status_code == 422
    assert client.get("/cleansings/1/changed?became=purple").status_code == 422
    assert client.get("/cleansings/1/changed?after=-1").status_code == 422
    assert "No more images" in client.get("/cleansings/1/changed?after=9999").text
    assert client.get("/api/v1/cleansings/99/changed").status_code == 404


def test_before_there_is_a_verdict_nothing_has_changed(
    client: TestClient, database: Database, images: list[Image]
) -> None:
    with database.transaction() as session:
        cleansing = session.get_one(Cleansing, 1)
        cleansing.state, cleansing.verdict = "queued", {}
    assert client.get("/api/v1/cleansings/1/changed").status_code == 409
    assert (
        client.get("/cleansings/1/changed", follow_redirects=False).headers["location"]
        == "/cleansings/1"
    )


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_until_it_is_measured_a_cleansing_is_where_its_job_is(
    client: TestClient, database: Database, images: list[Image], state: str
) -> None:
    with database.transaction() as session:
        cleansing = session.get_one(Cleansing, 1)
        job: Job = a_job(
            session, kind="cleanse", subject_id=1, data_set_id=cleansing.data_set_id, state=state
        )
        cleansing.state, cleansing.verdict, cleansing.job_id = "queued", {}, job.id
    assert client.get("/api/v1/cleansings/1").json()["state"] == state


def test_a_settled_cleansing_is_what_was_settled_whatever_its_job_says(
    client: TestClient, database: Database, images: list[Image]
) -> None:
    with database.transaction() as session:
        cleansing = session.get_one(Cleansing, 1)
        job = a_job(
            session,
            kind="cleanse",
            subject_id=1,
            data_set_id=cleansing.data_set_id,
            state="cancelled",
        )
        cleansing.state, cleansing.verdict, cleansing.job_id = "rolled_back", {}, job.id
    assert client.get("/api/v1/cleansings/1").json()["state"] == "rolled_back"
