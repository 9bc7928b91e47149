"""Why an image is suggested: the answers of page and API, and the jobs that they queue."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from backend.core.db import Database
from backend.core.models import Explanation, Image, Job, MapPoint, Review, User, VersionChange
from backend.core.storage import Storage
from tests.backend.core.test_statements import counted
from tests.factories import a_job
from tests.reviewing import a_map, a_ready_review, decide, queue_of


@pytest.fixture
def review(database: Database, storage: Storage) -> Review:
    with database.transaction() as session:
        return a_ready_review(session, storage)


@pytest.fixture
def first(database: Database, review: Review) -> int:
    """The image at the head of the queue."""
    with database.transaction(write=False) as session:
        return queue_of(session, review)[0].image_id


def address(review: Review, image_id: int) -> str:
    return f"/api/v1/reviews/{review.id}/images/{image_id}/why"


def explained(database: Database, review: Review, image_id: int) -> list[Image]:
    """Work it out: the first validation image gets worse, the next two better."""
    with database.transaction() as session:
        validation = session.scalars(
            select(Image)
            .where(Image.data_set_id == review.data_set_id, Image.split == "validation")
            .order_by(Image.id)
            .limit(3)
        ).all()
        ids = [image.id for image in validation]
        session.merge(
            Explanation(
                review_id=review.id,
                image_id=image_id,
                state="done",
                looked=1234,
                worse=ids[:1],
                better=[ids[2], ids[1]],
            )
        )
        return list(validation)


def jobs_of(database: Database) -> list[Job]:
    with database.transaction(write=False) as session:
        return list(session.scalars(select(Job).where(Job.kind == "explain").order_by(Job.id)))


def test_looking_asks_for_nothing(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    found = client.get(address(review, first)).json()
    assert found == {
        "state": "none",
        "sentence": "Not computed for this image yet.",
        "worse": [],
        "better": [],
        "like_given": [],
        "like_predicted": [],
    }
    assert jobs_of(database) == []


def test_what_was_worked_out_is_shown_with_pictures_and_labels_in_its_order(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    images = explained(database, review, first)
    with database.transaction() as session:
        session.add(VersionChange(version_id=review.version_id, image_id=images[1].id, label=2))
    found = client.get(address(review, first)).json()
    assert found["state"] == "ready"
    assert "(an estimate; 1,234 were looked at)" in found["sentence"]
    assert [one["image_id"] for one in found["worse"]] == [images[0].id]
    assert [one["image_id"] for one in found["better"]] == [images[2].id, images[1].id]
    assert found["better"][1]["label_name"] == "right"  # as the review's version has it
    assert client.get(found["worse"][0]["thumbnail"]).status_code == 200
    page = client.get(f"/reviews/{review.id}/focus?at=1").text
    assert (
        page.index("It makes these worse")
        < page.index(found["worse"][0]["thumbnail"])
        < page.index("It makes these better")
    )


def test_asking_queues_one_job_that_does_what_is_asked_meanwhile(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    with database.transaction(write=False) as session:
        second = queue_of(session, review)[1].image_id
    for image_id in (first, second, first):
        answer = client.post(address(review, image_id))
        assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    (job,) = jobs_of(database)
    assert (job.kind, job.subject_id, job.state, job.payload) == (
        "explain",
        review.id,
        "queued",
        {"image_id": first},
    )
    with database.transaction(write=False) as session:
        assert set(session.scalars(select(Explanation.image_id))) == {first, second}


def test_a_reviewer_may_ask_too(reviewer_client: TestClient, review: Review, first: int) -> None:
    assert reviewer_client.post(address(review, first)).status_code == 202


def test_what_is_there_is_not_worked_out_again(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    explained(database, review, first)
    assert client.post(address(review, first)).json()["state"] == "ready"
    assert jobs_of(database) == []


def test_a_job_ahead_is_named(
    client: TestClient, database: Database, review: Review, first: int, owner: User
) -> None:
    with database.transaction() as session:
        a_job(
            session,
            subject_id=1,
            data_set_id=review.data_set_id,
            state="running",
            lane="quick",
            seconds_left=130.0,
        )
    assert (
        client.post(address(review, first)).json()["sentence"]
        == "Waiting behind: A train job, about 2 min 10 s left."
    )


def test_a_job_that_failed_says_why_and_asking_again_makes_a_new_one(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    client.post(address(review, first))
    with database.transaction() as session:
        session.execute(
            update(Job).values(state="failed", error="The run's files are gone; train it again.")
        )
    found = client.get(address(review, first)).json()
    assert (found["state"], found["sentence"]) == (
        "none",
        "It could not be computed: The run's files are gone; train it again.",
    )
    assert client.post(address(review, first)).json()["state"] == "waiting"
    assert len(jobs_of(database)) == 2


def test_an_image_that_changes_nothing_is_said_to(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    with database.transaction() as session:
        session.add(
            Explanation(
                review_id=review.id, image_id=first, state="done", looked=9, worse=[], better=[]
            )
        )
    assert (
        "no measurable effect on any of 9 validation images"
        in client.get(address(review, first)).json()["sentence"]
    )


def test_an_image_of_another_review_is_not_found(client: TestClient, review: Review) -> None:
    for send in (client.get, client.post):
        assert send(address(review, 99_999)).status_code == 404


def test_the_images_most_like_it_are_there_before_anything_is_worked_out(
    client: TestClient, database: Database, review: Review, owner: User
) -> None:
    with database.transaction() as session:
        queue = a_map(session, review)
        row = next(row for row in queue if row.predicted != row.label)
        others = {other.image_id: other for other in queue}
        decided = session.get_one(MapPoint, (review.id, row.image_id)).like_given[0]
        decide(session, owner, review, decided, "remove")
    found = client.get(address(review, row.image_id)).json()
    assert found["state"] == "none"
    assert [others[one["image_id"]].label for one in found["like_given"]] == [row.label] * 6
    assert [others[one["image_id"]].label for one in found["like_predicted"]] == [row.predicted] * 6
    assert found["like_given"][0]["caption"] == "Remove"
    seen = others[found["like_predicted"][0]["image_id"]]
    names = ["left", "middle", "right"]
    said = names[seen.label] if seen.label == seen.predicted else f"→ {names[seen.predicted]}"
    assert found["like_predicted"][0]["caption"] == said
    assert client.get(found["like_given"][0]["thumbnail"]).status_code == 200
    page = client.get(f"/reviews/{review.id}/focus?at={row.position}").text
    assert page.index("Most like it, labelled") < page.index(found["like_given"][0]["thumbnail"])


def test_a_page_asks_no_more_often_for_an_image_with_neighbours_than_the_two_times_it_takes(
    client: TestClient, database: Database, review: Review, first: int
) -> None:
    asked = []
    for _ in range(2):
        with counted(database) as statements:
            client.get(address(review, first))
        asked.append(len(statements))
        with database.transaction() as session:
            if len(asked) == 1:
                a_map(session, review)
    assert asked[1] - asked[0] <= 1
