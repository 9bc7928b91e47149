"""Two people on an image: nobody overwrites another person's unseen decision."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.errors import Conflict
from backend.core.models import Review, User
from backend.review.deciding import decisions
from backend.review.deciding.decision_log import Act, Choice
from backend.review.deciding.decisions import Overtaken
from backend.review.queue.filters import Filters
from tests.reviewing import (
    a_ready_review,
    decide,
    decisions_of,
    images_of,
    queue_of,
    standing,
    undo,
)


def having_seen(
    session: Session, user: User, review: Review, image_id: int, choice: Choice, seen: int
) -> Act:
    return decisions.decide(session, user, review, image_id, choice, f"seen {seen}", seen)


# ── a single image ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("remove"), "reviewer removed this image meanwhile."),
        (Choice("unsure"), "reviewer was unsure about this image meanwhile."),
        (Choice("relabel", 2), "reviewer gave this image the label right meanwhile."),
    ],
)
def test_what_somebody_decided_unseen_is_not_overwritten(
    session: Session, review: Review, owner: User, reviewer: User, choice: Choice, words: str
) -> None:
    row = next(row for row in queue_of(session, review) if row.label != 2)
    decisions.decide(session, reviewer, review, row.image_id, choice, "hers")
    with pytest.raises(Overtaken) as refused:
        having_seen(session, owner, review, row.image_id, Choice("keep"), 0)
    assert refused.value.message == words.replace("reviewer", reviewer.name)
    assert (refused.value.suggestion.decision, refused.value.suggestion.decided_by) == (
        choice.action,
        reviewer.id,
    )
    assert len(decisions_of(session, review)) == 1


def test_what_one_has_seen_may_be_decided_otherwise(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "remove")
    having_seen(session, owner, review, image, Choice("keep"), 1)
    assert standing(session, review) == ["keep"]


def test_ones_own_decision_in_another_tab_is_no_conflict(
    session: Session, review: Review, owner: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, owner, review, image, "remove")
    having_seen(session, owner, review, image, Choice("keep"), 0)
    assert standing(session, review) == ["keep"]


def test_to_have_decided_the_same_is_no_conflict(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    row = queue_of(session, review)[0]
    label = (row.label + 1) % 3
    decide(session, reviewer, review, row.image_id, "relabel", label)
    having_seen(session, owner, review, row.image_id, Choice("relabel", label), 0)
    assert [one.user_id for one in decisions_of(session, review)] == [reviewer.id, owner.id]
    decide(
        session,
        reviewer,
        review,
        row.image_id,
        "relabel",
        (label + 1) % 3 if (label + 1) % 3 != row.label else (label + 2) % 3,
    )
    with pytest.raises(Overtaken):
        decisions.decide(session, owner, review, row.image_id, Choice("relabel", label), "again", 0)


def test_what_somebody_took_back_again_is_no_conflict(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "remove")
    undo(session, reviewer, review)
    having_seen(session, owner, review, image, Choice("keep"), 0)
    assert standing(session, review) == ["keep"]


def test_a_decision_of_somebody_who_left_counts_as_another_persons(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "remove")
    session.delete(session.get_one(User, reviewer.id))
    session.flush()
    with pytest.raises(Overtaken, match=r"^Somebody removed this image meanwhile"):
        having_seen(session, owner, review, image, Choice("keep"), 0)


def test_who_does_not_say_what_they_saw_decides_as_before(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "remove")
    decide(session, owner, review, image, "keep")
    assert standing(session, review) == ["keep"]


# ── many ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_selection_leaves_out_what_others_decided_unseen_and_counts_it(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = images_of(session, review, 5)
    decide(session, reviewer, review, images[0], "remove")
    decide(session, reviewer, review, images[1], "remove")
    decide(session, reviewer, review, images[2], "keep")
    act = decisions.decide_many(session, owner, review, images, Choice("keep"), "key", seen=1)
    assert (act.count, act.left) == (4, 1)
    assert standing(session, review, 5) == ["keep", "remove", "keep", "keep", "keep"]


def test_a_selection_that_others_have_decided_altogether_changes_nothing(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = images_of(session, review, 2)
    decisions.decide_many(session, reviewer, review, images, Choice("remove"), "hers")
    act = decisions.decide_many(session, owner, review, images, Choice("keep"), "mine", seen=0)
    assert (act.count, act.left, standing(session, review, 2)) == (0, 2, ["remove", "remove"])


def test_a_view_is_decided_without_what_others_took_out_of_it(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    decide(session, reviewer, review, images_of(session, review, 1)[0], "remove")
    act = decisions.decide_all(
        session, owner, review, Filters(), Choice("keep"), "key", expected=42, seen=0
    )
    assert (act.count, act.left) == (41, 1)
    assert standing(session, review, 2) == ["remove", "keep"]


def test_a_view_never_touches_more_than_was_said(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for image in images_of(session, review, 2):
        decide(session, reviewer, review, image, "unsure")
    filters = Filters(decision="unsure")
    with pytest.raises(Conflict, match="now holds 2 images, not 1"):
        decisions.decide_all(
            session, owner, review, filters, Choice("keep"), "key", expected=1, seen=2
        )


def test_a_view_of_decided_images_leaves_out_what_came_into_it_unseen(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for image in images_of(session, review, 3):
        decide(session, reviewer, review, image, "unsure")
    act = decisions.decide_all(
        session,
        owner,
        review,
        Filters(decision="unsure"),
        Choice("keep"),
        "key",
        expected=3,
        seen=2,
    )
    assert (act.count, act.left) == (2, 1)
    assert standing(session, review, 3) == ["keep", "keep", "unsure"]


# ── over the API and without JavaScript ───────────────────────────────────────────────────────────


@pytest.fixture
def there(database: Database, reviewer: User) -> dict[str, Any]:
    """A review whose first image the reviewer has removed."""
    with database.transaction() as session:
        review = a_ready_review(session)
        image = images_of(session, review, 1)[0]
        decide(session, reviewer, review, image, "remove")
    return {"review": review, "image": image}


def test_the_api_refuses_and_says_how_the_image_stands(
    client: TestClient, there: dict[str, Any], reviewer: User
) -> None:
    address = f"/api/v1/reviews/{there['review'].id}/decisions"
    body = {"client_key": "mine", "image_id": there["image"], "action": "keep", "seen": 0}
    for _ in range(2):
        answer = client.post(address, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (
            409,
            "application/problem+json",
        )
        problem = answer.json()
        assert problem["detail"] == f"{reviewer.name} removed this image meanwhile."
        assert (problem["image"]["image_id"], problem["image"]["decision"]["by_id"]) == (
            there["image"],
            reviewer.id,
        )
    assert (
        client.post(address, json={**body, "seen": problem["image"]["change"]}).json()["items"][0][
            "decision"
        ]["action"]
        == "keep"
    )


def test_what_was_seen_must_be_a_number_of_a_change(
    client: TestClient, there: dict[str, Any]
) -> None:
    body = {"client_key": "mine", "image_id": there["image"], "action": "keep", "seen": -1}
    answer = client.post(f"/api/v1/reviews/{there['review'].id}/decisions", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "seen")


def test_without_javascript_a_page_says_who_decided_meanwhile(
    client: TestClient, there: dict[str, Any], database: Database, reviewer: User
) -> None:
    data = {"action": "keep", "scope": "one", "image_id": str(there["image"]), "seen": "0"}
    answer = client.post(f"/reviews/{there['review'].id}/decide", data=data)
    assert answer.status_code == 409
    assert f"{reviewer.name} removed this image meanwhile." in answer.text
    with database.transaction() as session:
        assert standing(session, there["review"]) == ["remove"]
    shown = client.get(f"/reviews/{there['review'].id}/focus?at=1").text
    assert '<input type="hidden" name="seen" value="1">' in shown
