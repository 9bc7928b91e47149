"""Redo: until a new decision, and never over another person's."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.errors import NotFound
from backend.core.models import Review, User
from backend.review.deciding import decisions
from backend.review.deciding import undo as undoing
from backend.review.deciding.decision_log import Choice
from backend.review.queue import filters, queue_pages
from tests.reviewing import (
    a_ready_review,
    decide,
    decisions_of,
    images_of,
    queue_of,
    redo,
    standing,
    undo,
)


def test_redo_puts_the_same_decision_in_force_again(
    session: Session, review: Review, owner: User
) -> None:
    row = queue_of(session, review)[0]
    label = (row.label + 1) % 3
    decide(session, owner, review, row.image_id, "relabel", label)
    undo(session, owner, review)
    act = redo(session, owner, review)
    now = queue_of(session, review)[0]
    assert (now.decision, now.decision_label, now.decided_by, now.change) == (
        "relabel",
        label,
        owner.id,
        3,
    )
    assert (act.count, act.left, [item.image_id for item in act.items]) == (1, 0, [row.image_id])
    first, taken, again = decisions_of(session, review)
    assert (taken.undoes_id, again.redoes_id, again.undoes_id, now.decision_id) == (
        first.id,
        taken.id,
        None,
        again.id,
    )


def test_redo_goes_forward_one_act_after_the_other(
    session: Session, review: Review, owner: User
) -> None:
    images = images_of(session, review, 4)
    decide(session, owner, review, images[0], "remove")
    decisions.decide_many(session, owner, review, images[1:], Choice("keep"), "many")
    decide(session, owner, review, images[0], "unsure")
    for _ in range(3):
        undo(session, owner, review)
    seen = []
    for _ in range(3):
        redo(session, owner, review)
        seen.append(standing(session, review, 4))
    assert seen == [
        ["remove", None, None, None],
        ["remove", "keep", "keep", "keep"],
        ["unsure", "keep", "keep", "keep"],
    ]
    with pytest.raises(NotFound, match="nothing of yours to do again"):
        redo(session, owner, review)


def test_undo_and_redo_can_follow_each_other_for_ever(
    session: Session, review: Review, owner: User
) -> None:
    images = images_of(session, review, 3)
    decide(session, owner, review, images[0], "remove")
    decisions.decide_many(session, owner, review, images[1:], Choice("keep"), "many")
    for _ in range(3):
        assert undo(session, owner, review).count == 2
        assert standing(session, review, 3) == ["remove", None, None]
        assert redo(session, owner, review).count == 2
        assert standing(session, review, 3) == ["remove", "keep", "keep"]
    for _ in range(2):
        undo(session, owner, review)
    assert standing(session, review, 3) == [None, None, None]
    with pytest.raises(NotFound):
        undo(session, owner, review)


def test_a_new_decision_ends_what_could_be_done_again(
    session: Session, review: Review, owner: User
) -> None:
    first, second = images_of(session, review, 2)
    decide(session, owner, review, first, "remove")
    undo(session, owner, review)
    decide(session, owner, review, second, "keep")
    with pytest.raises(NotFound):
        redo(session, owner, review)
    assert standing(session, review, 2) == [None, "keep"]


def test_nobody_does_again_what_another_took_back(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    decide(session, reviewer, review, images_of(session, review, 1)[0], "remove")
    undo(session, reviewer, review)
    with pytest.raises(NotFound):
        redo(session, owner, review)


def test_what_another_decides_elsewhere_does_not_end_it(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second = images_of(session, review, 2)
    decide(session, owner, review, first, "remove")
    undo(session, owner, review)
    decide(session, reviewer, review, second, "keep")
    redo(session, owner, review)
    assert standing(session, review, 2) == ["remove", "keep"]


def test_what_somebody_decided_since_stays(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = images_of(session, review, 3)
    decisions.decide_many(session, owner, review, images, Choice("remove"), "key")
    undo(session, owner, review)
    decide(session, reviewer, review, images[1], "keep")
    act = redo(session, owner, review)
    assert (act.count, act.left) == (2, 1)
    assert standing(session, review, 3) == ["remove", "keep", "remove"]


def test_what_somebody_decided_between_the_act_and_its_undo_stays(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = images_of(session, review, 2)
    decisions.decide_many(session, owner, review, images, Choice("remove"), "key")
    decide(session, reviewer, review, images[0], "keep")
    undo(session, owner, review)
    act = redo(session, owner, review)
    assert (act.count, act.left) == (1, 1)
    assert standing(session, review, 2) == ["keep", "remove"]


def test_what_somebody_decided_and_took_back_is_no_hindrance(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, owner, review, image, "remove")
    undo(session, owner, review)
    decide(session, reviewer, review, image, "keep")
    with pytest.raises(NotFound):
        redo(session, owner, review)
    undo(session, reviewer, review)
    redo(session, owner, review)
    assert standing(session, review) == ["remove"]


def test_redoing_brings_back_ones_own_decision_over_the_one_it_stood_on(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "keep")
    decide(session, owner, review, image, "remove")
    undo(session, owner, review)
    assert standing(session, review) == ["keep"]
    redo(session, owner, review)
    assert standing(session, review) == ["remove"]
    undo(session, owner, review)
    assert standing(session, review) == ["keep"]


@pytest.mark.parametrize("many", [False, True])
def test_the_same_redo_twice_is_one_redo(
    session: Session, review: Review, owner: User, many: bool
) -> None:
    images = images_of(session, review, 3)
    for image in images if not many else []:
        decide(session, owner, review, image, "remove")
    if many:
        decisions.decide_many(session, owner, review, images, Choice("remove"), "first")
        decisions.decide_many(session, owner, review, images, Choice("keep"), "second")
    for _ in range(2):
        undo(session, owner, review)
    counts = [undoing.redo(session, owner, review, "key").count for _ in range(2)]
    assert counts == ([3, 3] if many else [1, 1])
    assert standing(session, review, 3) == (["remove"] * 3 if many else ["remove", "remove", None])


def test_a_view_too_large_to_send_back_is_done_again(
    session: Session, review: Review, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pages, "MOST_CHANGES", 10)
    decisions.decide_all(session, owner, review, filters.Filters(), Choice("remove"), "key")
    undo(session, owner, review)
    act = redo(session, owner, review)
    assert (act.count, act.items) == (42, [])
    assert standing(session, review, 42) == ["remove"] * 42


def test_the_api_does_again_and_says_when_there_is_nothing(
    client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        image = images_of(session, review, 1)[0]
    address = f"/api/v1/reviews/{review.id}"
    client.post(
        f"{address}/decisions", json={"client_key": "one", "image_id": image, "action": "keep"}
    )
    client.post(f"{address}/undo", json={"client_key": "two"})
    done = client.post(f"{address}/redo", json={"client_key": "three"})
    assert (
        done.status_code,
        done.json()["count"],
        done.json()["items"][0]["decision"]["action"],
    ) == (200, 1, "keep")
    refused = client.post(f"{address}/redo", json={"client_key": "four"})
    assert (refused.status_code, refused.json()["detail"]) == (
        404,
        "There is nothing of yours to do again.",
    )


def test_without_javascript_a_form_does_again_and_shows_the_image(
    client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        image = images_of(session, review, 1)[0]
    address = f"/reviews/{review.id}"
    for act, data in (
        ("decide", {"action": "remove", "scope": "one", "image_id": str(image)}),
        ("undo", {}),
    ):
        client.post(f"{address}/{act}", data=data, follow_redirects=False)
    answer = client.post(
        f"{address}/redo", data={"back": f"{address}/focus?at=1"}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}/focus?at=1")
    with database.transaction() as session:
        assert standing(session, review) == ["remove"]
