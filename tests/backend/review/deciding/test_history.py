"""The history of an image: each decision with author, time and scorings; nothing is forgotten."""

import pytest
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import Review, User
from backend.review.deciding import decisions, history
from backend.review.deciding.decision_log import Choice
from tests.reviewing import a_ready_review, decide, queue_of, redo, undo


@pytest.fixture
def review(database: Database) -> Review:
    with database.transaction() as session:
        return a_ready_review(session)


def address(database: Database, review: Review, place: int = 0) -> str:
    with database.transaction() as session:
        return (
            f"/api/v1/reviews/{review.id}/images/"
            f"{queue_of(session, review)[place].image_id}/history"
        )


def test_every_act_is_kept_with_who_when_and_what(
    client: TestClient, database: Database, review: Review, owner: User, reviewer: User
) -> None:
    with database.transaction() as session:
        first, second = queue_of(session, review)[:2]
        decide(session, reviewer, review, first.image_id, "relabel", (first.label + 1) % 3)
        decisions.decide_many(
            session, owner, review, [first.image_id, second.image_id], Choice("remove"), "two"
        )
        undo(session, owner, review)
        redo(session, owner, review)
    found = client.get(address(database, review)).json()
    name = ("left", "middle", "right")[(first.label + 1) % 3]
    assert [(act["by"], act["words"], act["undone"]) for act in found["items"]] == [
        (owner.name, "removed it again, with others", False),
        (owner.name, "took it back, with others", False),
        (owner.name, "removed it, with others", True),
        (reviewer.name, f"gave it the label {name}", False),
    ]
    assert [act["action"] for act in found["items"]] == ["remove", "undo", "remove", "relabel"]
    assert found["count"] == 4
    assert found["items"][0]["at"] >= found["items"][-1]["at"]
    assert found["scoring_ids"] == [review.accuracy_scoring_id, review.label_scoring_id]


def test_an_image_that_nobody_decided_on_has_none_and_a_strange_one_is_not_found(
    client: TestClient, database: Database, review: Review
) -> None:
    assert client.get(address(database, review)).json()["items"] == []
    assert client.get(f"/api/v1/reviews/{review.id}/images/4711/history").status_code == 404


def test_of_a_long_quarrel_the_latest_are_listed_and_all_are_counted(
    client: TestClient,
    database: Database,
    review: Review,
    owner: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "MOST", 3)
    with database.transaction() as session:
        for action in ("remove", "keep") * 3:
            decide(session, owner, review, queue_of(session, review)[0].image_id, action)
    found = client.get(address(database, review)).json()
    assert ([act["action"] for act in found["items"]], found["count"]) == (
        ["keep", "remove", "keep"],
        6,
    )


def test_the_focus_view_shows_it_folded(
    client: TestClient, database: Database, review: Review, owner: User, reviewer: User
) -> None:
    with database.transaction() as session:
        image = queue_of(session, review)[0].image_id
        decide(session, reviewer, review, image, "keep")
        decide(session, owner, review, image, "unsure")
    text = client.get(f"/reviews/{review.id}/focus?at=1").text
    assert f"<b>{owner.name}</b> was unsure" in text
    assert f"<b>{reviewer.name}</b> kept it" in text
    assert (
        "No one has decided on this image yet."
        in client.get(f"/reviews/{review.id}/focus?at=2").text
    )
