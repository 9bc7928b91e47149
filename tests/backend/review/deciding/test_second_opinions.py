"""Second opinions: an image is removed or relabelled only if two people agree."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.cleansing import service as cleansing
from backend.core.db import Database
from backend.core.models import Review, User
from backend.review import service
from backend.review.deciding import decisions, second_opinions
from backend.review.deciding.decision_log import Choice
from backend.review.queue import counts, queue_pages
from backend.review.queue.filters import Filters
from tests.factories import a_user
from tests.reviewing import a_ready_review, decide, images_of, queue_of, redo, undo


@pytest.fixture
def review(session: Session) -> Review:
    """42 suggestions, and two people must agree."""
    review = a_ready_review(session)
    service.ask_for_second_opinions(session, review, True)
    return review


def those(session: Session, review: Review, decision: str) -> list[int]:
    """The positions that a value of the filter `decision` shows."""
    return [
        row.position
        for row in queue_pages.page(session, review, filters=Filters(decision=decision)).items
    ]


def effect(session: Session, review: Review, user: User) -> list[int]:
    """The positions that a cleansing would remove or relabel."""
    return [change.position for change in cleansing.dry_run(session, user, review, floor=0).changes]


def test_one_person_is_not_enough_and_two_are(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second = images_of(session, review, 2)
    decide(session, owner, review, first, "remove")
    decide(session, owner, review, second, "remove")
    assert (those(session, review, "waiting"), effect(session, review, owner)) == ([1, 2], [])
    decide(session, reviewer, review, first, "remove")
    assert (those(session, review, "waiting"), effect(session, review, owner)) == ([2], [1])
    assert cleansing.dry_run(session, owner, review, 0).unsettled == 1


def test_saying_it_twice_oneself_is_no_second_opinion(
    session: Session, review: Review, owner: User
) -> None:
    image = images_of(session, review, 1)[0]
    for _ in range(2):
        decide(session, owner, review, image, "remove")
    assert (those(session, review, "waiting"), effect(session, review, owner)) == ([1], [])


def test_what_waits_for_ones_own_opinion_leaves_out_what_one_decided_oneself(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second, third = images_of(session, review, 3)
    decide(session, owner, review, first, "remove")
    decide(session, reviewer, review, second, "remove")
    decide(session, reviewer, review, third, "keep")
    for user, positions in ((owner, [2]), (reviewer, [1])):
        page = queue_pages.page(
            session, review, filters=Filters(decision="waiting", not_by=user.id)
        )
        assert [row.position for row in page.items] == positions
        assert second_opinions.counts(session, review, user) == (2, 0, 1)
    assert second_opinions.counts(session, review, a_user(session, "tom", "reviewer")) == (2, 0, 2)


def test_decided_by_another_means_decided_and_people_who_left_are_others(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second = images_of(session, review, 2)
    decide(session, owner, review, first, "keep")
    decide(session, reviewer, review, second, "keep")
    session.delete(session.get_one(User, reviewer.id))
    session.flush()
    for filters in (Filters(not_by=owner.id), Filters(not_by=owner.id, accuracy_min=0)):
        assert [
            row.position for row in queue_pages.page(session, review, filters=filters).items
        ] == [2]
        assert sum(counts.by_decision(session, review, filters).values()) == 1
    assert Filters(not_by=owner.id).decided


def test_to_disagree_is_a_queue_of_its_own_until_a_third_person_settles_it(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    third = a_user(session, "tom", "reviewer")
    image = images_of(session, review, 1)[0]
    decide(session, owner, review, image, "remove")
    decide(session, reviewer, review, image, "keep")
    assert [those(session, review, name) for name in ("waiting", "disagreement")] == [[], [1]]
    assert effect(session, review, owner) == []
    decide(session, third, review, image, "remove")
    assert [those(session, review, name) for name in ("waiting", "disagreement")] == [[], []]
    assert effect(session, review, owner) == [1]


def test_two_labels_are_a_disagreement_and_the_same_label_is_not(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    row = queue_of(session, review)[0]
    one, other = (label for label in range(3) if label != row.label)
    decide(session, owner, review, row.image_id, "relabel", one)
    decide(session, reviewer, review, row.image_id, "relabel", other)
    assert (those(session, review, "disagreement"), effect(session, review, owner)) == ([1], [])
    decide(session, reviewer, review, row.image_id, "relabel", one)
    assert (those(session, review, "disagreement"), effect(session, review, owner)) == ([], [1])


def test_to_keep_needs_nobody_else(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second = images_of(session, review, 2)
    decide(session, owner, review, first, "keep")
    decide(session, owner, review, second, "keep")
    decide(session, reviewer, review, second, "unsure")
    assert [those(session, review, name) for name in ("waiting", "disagreement")] == [[], []]


def test_who_is_unsure_where_another_removes_makes_it_a_disagreement(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, owner, review, image, "remove")
    decide(session, reviewer, review, image, "unsure")
    assert those(session, review, "disagreement") == [1]
    decide(session, owner, review, image, "remove")
    assert [those(session, review, name) for name in ("waiting", "disagreement")] == [[1], []]


def test_taking_it_back_takes_the_opinion_back_and_redo_gives_it_again(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = images_of(session, review, 3)
    decisions.decide_many(session, owner, review, images, Choice("remove"), "mine")
    decisions.decide_many(session, reviewer, review, images, Choice("remove"), "hers")
    assert effect(session, review, owner) == [1, 2, 3]
    undo(session, owner, review)
    assert (effect(session, review, owner), those(session, review, "waiting")) == ([], [1, 2, 3])
    decide(session, owner, review, images[0], "remove")
    assert effect(session, review, owner) == [1]
    undo(session, reviewer, review)
    assert those(session, review, "waiting") == [1]
    redo(session, reviewer, review)
    assert those(session, review, "waiting") == [2, 3]


def test_the_opinion_of_somebody_who_left_still_counts(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image = images_of(session, review, 1)[0]
    decide(session, reviewer, review, image, "remove")
    session.delete(session.get_one(User, reviewer.id))
    session.flush()
    session.expire_all()
    decide(session, owner, review, image, "remove")
    assert effect(session, review, owner) == [1]


def test_to_say_otherwise_unseen_is_an_opinion_and_no_conflict(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    first, second = images_of(session, review, 2)
    decisions.decide_many(session, reviewer, review, [first, second], Choice("remove"), "hers")
    decisions.decide(session, owner, review, first, Choice("keep"), "mine", seen=0)
    assert (
        decisions.decide_many(
            session, owner, review, [second], Choice("remove"), "two", seen=0
        ).left
        == 0
    )
    assert (those(session, review, "disagreement"), effect(session, review, owner)) == ([1], [2])


def test_where_it_is_not_asked_for_one_person_is_enough(
    session: Session, review: Review, owner: User
) -> None:
    decide(session, owner, review, images_of(session, review, 1)[0], "remove")
    refused = cleansing.dry_run(session, owner, review, 0).refusal
    assert refused is not None
    assert "The change has no second approval yet." in refused
    service.ask_for_second_opinions(session, review, False)
    found = cleansing.dry_run(session, owner, review, 0)
    assert (found.refusal, found.unsettled, [change.position for change in found.changes]) == (
        None,
        0,
        [1],
    )


@pytest.mark.slow
def test_owners_switch_it_over_the_api_and_reviewers_cannot(
    api_client: TestClient,
    reviewer_client: TestClient,
    client: TestClient,
    database: Database,
    reviewer: User,
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        decide(session, reviewer, review, images_of(session, review, 1)[0], "remove")
    address = f"/api/v1/reviews/{review.id}"
    assert reviewer_client.put(f"{address}/second-opinion").status_code == 403
    before = api_client.get(address).json()
    assert (before["second_opinion"], before["progress"]["waiting"]) == (False, None)
    switched = api_client.put(f"{address}/second-opinion").json()
    assert (
        switched["second_opinion"],
        switched["progress"]["waiting"],
        switched["progress"]["disagreement"],
    ) == (True, 1, 0)
    assert [
        item["position"]
        for item in api_client.get(f"{address}/suggestions?decision=waiting").json()["items"]
    ] == [1]
    assert (
        api_client.get(f"{address}/suggestions?decision=waiting&not_by={reviewer.id}").json()[
            "items"
        ]
        == []
    )
    assert api_client.get(f"{address}/suggestions?not_by=99").status_code == 422
    assert api_client.get(f"{address}/dry-run").json()["unsettled"] == 1
    assert (
        "1 decision without a matching second opinion does not count"
        in client.get(f"/reviews/{review.id}/clean").text
    )
    assert api_client.delete(f"{address}/second-opinion").json()["second_opinion"] is False


@pytest.mark.slow
def test_owners_switch_it_by_a_plain_form(
    client: TestClient, reviewer_client: TestClient, database: Database, reviewer: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        decide(session, reviewer, review, images_of(session, review, 1)[0], "remove")
    address = f"/reviews/{review.id}"
    assert "Ask for second opinions" not in reviewer_client.get(f"{address}/standing").text
    assert "Ask for second opinions" in client.get(f"{address}/standing").text
    client.post(f"{address}/second-opinion", data={"asked": "yes"})
    text = client.get(f"{address}/standing").text
    assert f'href="{address}/focus?decision=waiting&amp;by={reviewer.id}"' in text
    page = client.get(address).text
    assert "waiting for a second opinion" in page
    assert "1</span> of them for yours" in page
    assert "0</span> of them for yours" in reviewer_client.get(address).text
    assert (
        "But not by" in reviewer_client.get(f"{address}?decision=waiting&not_by={reviewer.id}").text
    )
    client.post(f"{address}/second-opinion", data={"asked": "no"})
    assert "waiting for a second opinion" not in client.get(address).text


def test_one_by_one_begins_with_what_waits_for_ones_own_opinion(
    client: TestClient, owner: User, reviewer: User, database: Database
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        service.ask_for_second_opinions(session, review, True)
        decide(session, owner, review, images_of(session, review, 1)[0], "remove")

    def start() -> str:
        text = client.get(f"/reviews/{review.id}").text
        return text.partition(f"/reviews/{review.id}/focus?")[2].partition('"')[0]

    assert start() == ""
    with database.transaction() as session:
        decide(session, reviewer, review, images_of(session, review, 4)[3], "remove")
    assert start() == f"decision=waiting&amp;not_by={owner.id}"
    assert (
        'data-part="rank">4<'
        in client.get(f"/reviews/{review.id}/focus?decision=waiting&not_by={owner.id}").text
    )
