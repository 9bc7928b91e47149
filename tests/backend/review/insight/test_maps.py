"""The map over the API: places, groups, and selections that are views like any other."""

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from backend.core.db import Database
from backend.core.models import (
    DataSet,
    Job,
    MapPoint,
    Review,
    Selection,
    SelectionImage,
    Suggestion,
    User,
)
from backend.review.insight import maps
from tests.reviewing import a_map, a_ready_review, decide, queue_of


@pytest.fixture
def review(database: Database, owner: User) -> Review:
    """A review with a map of three groups, its first image removed."""
    with database.transaction() as session:
        review = a_ready_review(session)
        queue = a_map(session, review)
        decide(session, owner, review, queue[0].image_id, "remove")
        return review


@pytest.fixture
def queue(database: Database, review: Review) -> list[Suggestion]:
    with database.transaction(write=False) as session:
        return list(queue_of(session, review))


@pytest.fixture
def base(review: Review) -> str:
    return f"/api/v1/reviews/{review.id}"


def cards(client: TestClient, base: str, **query: Any) -> list[int]:
    answer = client.get(f"{base}/suggestions", params={"limit": 500, **query})
    assert answer.status_code == 200, answer.text
    return [card["image_id"] for card in answer.json()["items"]]


def pick(client: TestClient, base: str, image_ids: list[int]) -> int:
    answer = client.post(f"{base}/selections", json={"image_ids": image_ids})
    assert answer.status_code == 201, answer.text
    assert answer.json()["count"] == len(set(image_ids))
    return int(answer.json()["id"])


def test_the_map_has_a_place_for_each_image_at_one_scale_in_both_directions(
    client: TestClient, base: str, queue: list[Suggestion]
) -> None:
    found = client.get(f"{base}/map").json()
    assert found["image_ids"] == sorted(row.image_id for row in queue)
    at = {
        image_id: (x, y)
        for image_id, x, y in zip(found["image_ids"], found["x"], found["y"], strict=True)
    }
    assert at[queue[0].image_id] == (0, 0)
    assert at[queue[41].image_id][0] == found["side"] == 10_000
    assert max(found["y"]) == pytest.approx(10_000 * 0.6 / 4.1, abs=1)
    of = found["image_ids"].index(queue[0].image_id)
    assert found["decision_names"][found["decisions"][of]] == "remove"
    assert (found["labels"][of], found["predicted"][of]) == (queue[0].label, queue[0].predicted)
    assert sum(code > 0 for code in found["decisions"]) == 1


def test_a_layout_that_is_not_there_yet_is_empty(client: TestClient, base: str) -> None:
    assert client.get(f"{base}/map", params={"layout": "neighbours"}).json()["image_ids"] == []


def test_asking_for_the_second_layout_makes_one_job_and_is_ready_when_it_is_written(
    client: TestClient, reviewer_client: TestClient, base: str, review: Review, database: Database
) -> None:
    assert client.get(f"{base}/map").json()["neighbours"] == "none"
    for asking in (client, reviewer_client, client):
        answer = asking.post(f"{base}/map", json={})
        assert (answer.status_code, answer.json()["neighbours"]) == (202, "waiting")
    with database.transaction() as session:
        (job,) = session.scalars(select(Job).where(Job.kind == "map")).all()
        assert (job.subject_id, job.state) == (review.id, "queued")
        assert (
            job.title == f"Arrange the map of {session.get_one(DataSet, review.data_set_id).name}"
        )
        job.state = "done"
        for place, point in enumerate(
            session.scalars(select(MapPoint).order_by(MapPoint.image_id))
        ):
            point.near_x, point.near_y = float(-place), 1.0
    assert client.post(f"{base}/map", json={}).json() == {"neighbours": "ready", "sentence": ""}
    found = client.get(f"{base}/map", params={"layout": "neighbours"}).json()
    assert (found["x"][0], found["x"][41], found["neighbours"]) == (10_000, 0, "ready")


def test_a_layout_that_failed_says_why_and_can_be_asked_for_again(
    client: TestClient, base: str, database: Database
) -> None:
    client.post(f"{base}/map", json={})
    with database.transaction() as session:
        session.execute(update(Job).values(state="failed", error="The run's files are gone."))
    assert (
        client.get(f"{base}/map")
        .json()["sentence"]
        .endswith("could not be made: The run's files are gone.")
    )
    assert client.post(f"{base}/map", json={}).json()["neighbours"] == "waiting"


def test_a_review_without_a_map_says_so(client: TestClient, database: Database) -> None:
    with database.transaction() as session:
        bare = a_ready_review(session, name="Bare")
    assert client.get(f"/api/v1/reviews/{bare.id}/map").json()["image_ids"] == []
    assert client.get(f"/api/v1/reviews/{bare.id}/groups").json() == []
    assert client.post(f"/api/v1/reviews/{bare.id}/map", json={}).status_code == 409
    assert "There is no map of this review" in client.get(f"/reviews/{bare.id}/map").text


def test_groups_are_counted_and_lead_to_their_images(
    client: TestClient, base: str, review: Review, queue: list[Suggestion]
) -> None:
    found = client.get(f"{base}/groups").json()
    assert [one["group"] for one in found] == [1, 2, 3]
    for one in found:
        members = [row for place, row in enumerate(queue) if 1 + place % 3 == one["group"]]
        assert cards(client, base, group=one["group"]) == [row.image_id for row in members]
        assert (one["count"], one["decided"]) == (
            14,
            sum(row.decision is not None for row in members),
        )
        assert one["doubted"] == sum(row.label != row.predicted for row in members)
        assert [example["image_id"] for example in one["examples"]] == [
            row.image_id for row in members[:6]
        ]
        names = ["left", "middle", "right"]
        counts = [sum(row.label == label for row in members) for label in range(3)]
        assert (one["label_name"], one["share"]) == (
            names[counts.index(max(counts))],
            pytest.approx(max(counts) / 14),
        )
    page = client.get(f"/reviews/{review.id}/map").text
    assert f'href="/reviews/{review.id}?group=3"' in page
    text = client.get(f"/reviews/{review.id}?group=3").text
    assert '<option value="3" selected>group 3</option>' in text


def test_a_selection_is_a_view_decided_as_a_whole_and_taken_back_by_one_undo(
    client: TestClient, base: str, review: Review, queue: list[Suggestion]
) -> None:
    chosen = [row.image_id for row in queue[0:20:2]]
    number = pick(client, base, [*chosen, chosen[0]])
    assert cards(client, base, selection=number) == chosen
    counted = client.get(f"{base}/counts", params={"selection": number}).json()
    assert (counted["total"], counted["bulk"]) == (10, 9)  # an image is decided already
    body = {
        "client_key": str(uuid4()),
        "action": "keep",
        "filter": {"selection": number},
        "expected": 9,
    }
    assert client.post(f"{base}/decisions/bulk", json=body).json()["count"] == 9
    assert cards(client, base, selection=number, decision="keep") == chosen[1:]
    assert client.post(f"{base}/undo", json={"client_key": str(uuid4())}).json()["count"] == 9
    assert cards(client, base, decision="decided") == chosen[:1]
    assert "10 images in this view" in client.get(f"/reviews/{review.id}?selection={number}").text


def test_selections_go_with_other_filters_and_orders(
    client: TestClient, base: str, queue: list[Suggestion]
) -> None:
    chosen = queue[5:30]
    number = pick(client, base, [row.image_id for row in chosen])
    wanted = sorted((row for row in chosen if row.label == 1), key=lambda row: row.label_rank)
    assert cards(client, base, selection=number, label=1, order="label") == [
        row.image_id for row in wanted
    ]
    assert set(cards(client, base, selection=number, group=2)) == {
        row.image_id for place, row in enumerate(queue) if place % 3 == 1
    } & {row.image_id for row in chosen}


def test_what_belongs_to_another_review_cannot_be_picked_and_leaves_nothing(
    client: TestClient, base: str, database: Database, queue: list[Suggestion]
) -> None:
    assert (
        client.post(
            f"{base}/selections", json={"image_ids": [queue[0].image_id, 99_999]}
        ).status_code
        == 404
    )
    assert client.post(f"{base}/selections", json={"image_ids": []}).status_code == 422
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(Selection)) == 0


def test_many_images_are_picked_in_several_statements(
    client: TestClient, base: str, queue: list[Suggestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "AT_A_TIME", 7)
    assert (
        len(cards(client, base, selection=pick(client, base, [row.image_id for row in queue])))
        == 42
    )


def test_old_selections_go_and_an_address_that_names_one_says_so(
    client: TestClient,
    base: str,
    review: Review,
    database: Database,
    queue: list[Suggestion],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maps, "MOST_SELECTIONS", 2)
    numbers = [pick(client, base, [queue[place].image_id]) for place in range(3)]
    assert client.get(f"{base}/suggestions", params={"selection": numbers[0]}).status_code == 422
    assert (
        "That selection is gone" in client.get(f"/reviews/{review.id}?selection={numbers[0]}").text
    )
    assert len(cards(client, base, selection=numbers[2])) == 1
    with database.transaction(write=False) as session:
        assert session.scalar(select(func.count()).select_from(SelectionImage)) == 2


def test_another_reviews_selection_is_not_found_here(
    client: TestClient, base: str, database: Database
) -> None:
    with database.transaction() as session:
        other = a_ready_review(session, name="Other")
        image_id = queue_of(session, other)[0].image_id
    number = pick(client, f"/api/v1/reviews/{other.id}", [image_id])
    assert client.get(f"{base}/suggestions", params={"selection": number}).status_code == 422


@pytest.mark.parametrize("query", ["group=0", "group=x", "selection=99", "selection=-1"])
def test_a_group_or_selection_that_cannot_be_is_left_out_with_a_note(
    client: TestClient, review: Review, query: str
) -> None:
    assert "That filter was left out." in client.get(f"/reviews/{review.id}?{query}").text


def test_a_map_of_one_place_does_not_divide_by_nothing(
    client: TestClient, base: str, database: Database
) -> None:
    with database.transaction() as session:
        for point in session.scalars(select(MapPoint)):
            point.x = point.y = 0.5
    assert set(client.get(f"{base}/map").json()["x"]) == {0}
