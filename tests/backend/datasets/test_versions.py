"""The history of a data set: each version's changes, image by image, with author and review."""

import re
from dataclasses import dataclass
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.models import Cleansing, DataSet, Decision, Image, User, Version, VersionChange
from backend.core.storage import Storage
from tests.factories import a_data_set, a_review, a_run


@dataclass
class Story:
    """Versions as imported (1), after a review of it (2), and after that (3); six images."""

    data_set: int
    review: int
    images: dict[str, int]

    @property
    def address(self) -> str:
        return f"/api/v1/data-sets/{self.data_set}/versions"


def a_version(
    session: Session, data_set: DataSet, parent_id: int, number: int, changes: dict[int, int | None]
) -> Version:
    removed = sum(label is None for label in changes.values())
    made = Version(
        data_set_id=data_set.id, parent_id=parent_id, number=number, removed_count=removed
    )
    made.relabelled_count = len(changes) - removed
    session.add(made)
    session.flush()
    session.add_all(
        VersionChange(version_id=made.id, image_id=image_id, label=label)
        for image_id, label in changes.items()
    )
    data_set.current_version_id = made.id
    return made


def decided(
    session: Session,
    review_id: int,
    image_id: int,
    user: User | None,
    action: str,
    version: Version,
    minutes: int,
) -> None:
    key = f"{image_id} {action}"
    made = Decision(
        review_id=review_id,
        image_id=image_id,
        user_id=user.id if user else None,
        client_key=key,
        action=action,
    )
    made.created_at = version.created_at + timedelta(minutes=minutes)
    session.add(made)
    session.flush()


@pytest.fixture
def story(database: Database, storage: Storage, owner: User, reviewer: User) -> Story:
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=20)
        first = data_set.current_version_id or 0
        train = (
            select(Image.id)
            .where(Image.split == "train", Image.label == 0)
            .order_by(Image.id)
            .limit(6)
        )
        images = dict(zip("abcdef", session.scalars(train), strict=True))
        review = a_review(session, a_run(session, data_set))
        a, b, c, d, e, _ = images.values()
        second = a_version(session, data_set, first, 2, {a: None, b: None, c: 1, d: 2})
        second.created_by = owner.id
        # b is back, c has its imported label, d leaves although relabelled, e gets a label.
        a_version(session, data_set, second.id, 3, {a: None, d: None, e: 2})
        cleansing = Cleansing(
            data_set_id=data_set.id,
            review_id=review.id,
            run_id=1,
            parent_version_id=first,
            version_id=second.id,
        )
        cleansing.state = "accepted"
        cleansing.verdict = {
            "judgement": "improved",
            "fresh_seeds": {
                "accuracy": {"judgement": "no_measurable_change"},
                "loss": {"judgement": "better"},
            },
        }
        session.add(cleansing)
        decided(session, review.id, a, reviewer, "remove", second, -2)
        decided(session, review.id, b, reviewer, "keep", second, -3)
        decided(session, review.id, b, None, "remove", second, -2)
        # The review went on after the version was made: no part of its story.
        decided(session, review.id, a, owner, "keep", second, 2)
        return Story(data_set.id, review.id, images)


def changed(
    client: TestClient, story: Story, number: int, query: str = ""
) -> list[tuple[str, str, str | None, str | None]]:
    names = {image_id: name for name, image_id in story.images.items()}
    found = client.get(f"{story.address}/{number}/changes?{query}").json()["items"]
    return [
        (names[one["image_id"]], one["kind"], one["label_name"], one["new_label_name"])
        for one in found
    ]


def test_a_version_is_compared_with_the_one_before_it_and_not_with_the_import(
    client: TestClient, story: Story
) -> None:
    assert changed(client, story, 1) == []
    assert changed(client, story, 2) == [
        ("a", "removed", "left", None),
        ("b", "removed", "left", None),
        ("c", "relabelled", "left", "middle"),
        ("d", "relabelled", "left", "right"),
    ]
    assert changed(client, story, 3) == [
        ("b", "returned", None, "left"),
        ("c", "relabelled", "middle", "left"),
        ("d", "removed", "right", None),
        ("e", "relabelled", "left", "right"),
    ]


def test_the_history_counts_what_each_version_changed_and_says_where_it_comes_from(
    client: TestClient, story: Story
) -> None:
    third, second, first = client.get(story.address).json()
    assert [one["number"] for one in (third, second, first)] == [3, 2, 1]
    assert first["changes"] == {"removed": 0, "relabelled": 0, "returned": 0}
    assert second["changes"] == {"removed": 2, "relabelled": 2, "returned": 0}
    assert third["changes"] == {"removed": 1, "relabelled": 2, "returned": 1}
    assert (second["by"], second["review_id"], second["cleansing_id"]) == ("olga", story.review, 1)
    assert (first["by"], first["review_id"], first["cleansing_id"]) == (None, None, None)
    assert client.get(f"{story.address}/2").json() == second


def test_each_change_is_whose_who_decided_it_when_the_version_was_made(
    client: TestClient, story: Story
) -> None:
    found = {
        one["image_id"]: one for one in client.get(f"{story.address}/2/changes").json()["items"]
    }
    assert found[story.images["a"]]["by"] == "rita"
    left = found[story.images["b"]]
    assert (left["by"], left["at"] is not None) == (None, True)  # a former user
    assert found[story.images["c"]]["at"] is None
    page = client.get(f"/datasets/{story.data_set}/versions/2").text
    assert "rita, <time" in page
    assert "Someone who has left, <time" in page


def test_pages_of_one_hold_each_change_once(client: TestClient, story: Story) -> None:
    found, after = [], "0"
    while after is not None:
        answer = client.get(f"{story.address}/3/changes?limit=1&after={after}").json()
        assert len(answer["items"]) == 1
        found += [answer["items"][0]["image_id"]]
        after = answer["next"]
    assert found == [story.images[name] for name in "bcde"]


def test_one_kind_of_change_is_shown_alone_with_the_pictures(
    client: TestClient, story: Story
) -> None:
    assert [name for name, *_ in changed(client, story, 3, "kind=relabelled")] == ["c", "e"]
    page = client.get(f"/datasets/{story.data_set}/versions/3?kind=returned").text
    assert re.findall(r'data-kind="(\w+)"', page) == ["returned"]
    assert "1 image left out, 2 relabelled, 1 back in, compared with version 2." in page
    for picture in re.findall(r'(?:src|href)="(/images/[^"]+)"', page):
        assert client.get(picture).status_code == 200


def test_the_data_set_shows_its_history_with_a_way_to_each_version(
    client: TestClient, story: Story
) -> None:
    page = client.get(f"/datasets/{story.data_set}").text
    for number in (2, 3):
        assert (
            f'<a href="/datasets/{story.data_set}/versions/{number}">Version {number}</a>' in page
        )
    assert '<a href="/cleansings/1">Verdict</a>: confidence better, accuracy unchanged' in page
    assert "2 images left out, 2 relabelled, compared with version 1." in page


def test_what_is_not_there_is_said(client: TestClient, story: Story) -> None:
    for address in (
        f"{story.address}/4",
        f"{story.address}/4/changes",
        "/api/v1/data-sets/99/versions/1",
        f"{story.address}/-1",
    ):
        assert client.get(address).status_code == 404, address
    answer = client.get(f"/datasets/{story.data_set}/versions/4")
    assert (answer.status_code, "Blocks has no version 4." in answer.text) == (404, True)
    assert client.get(f"{story.address}/2/changes?kind=purple").status_code == 422
    assert "No more images" in client.get(f"/datasets/{story.data_set}/versions/2?after=99999").text
    assert (
        "No such change" in client.get(f"/datasets/{story.data_set}/versions/2?kind=returned").text
    )
