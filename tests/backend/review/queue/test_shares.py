"""A queue shared by several people: disjoint parts, joining and leaving, no decision lost."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.errors import Forbidden
from backend.core.models import Review, User
from backend.review.deciding import decisions
from backend.review.deciding.decision_log import Choice
from backend.review.queue import queue_pages, shares
from backend.review.queue.filters import Filters
from tests.factories import a_user
from tests.reviewing import a_ready_review, decide, queue_of


def part_of(session: Session, review: Review, user: User) -> list[int]:
    """Return the positions in a person's part."""
    return [
        row.position
        for row in queue_pages.page(session, review, filters=Filters(part=user.id)).items
    ]


def test_two_people_share_the_queue_without_overlap_or_gap(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for user in (owner, reviewer):
        shares.take(session, user, review)
    mine, hers = part_of(session, review, owner), part_of(session, review, reviewer)
    assert sorted(mine + hers) == list(range(1, 43))
    assert (mine[:4], hers[:4]) == ([1, 2, 5, 6], [3, 4, 7, 8])


def test_each_part_has_images_of_both_rankings(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for user in (owner, reviewer):
        shares.take(session, user, review)
    for user in (owner, reviewer):
        assert {position % 2 for position in part_of(session, review, user)} == {0, 1}


def test_whoever_comes_or_goes_changes_the_parts_and_no_decision(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    third = a_user(session, "tom", "reviewer")
    shares.take(session, owner, review)
    assert len(part_of(session, review, owner)) == 42
    for row in queue_of(session, review)[:10]:
        decide(session, owner, review, row.image_id, "keep")
    for user in (reviewer, third):
        shares.take(session, user, review)
    everybody = [part_of(session, review, user) for user in (owner, reviewer, third)]
    assert sorted(position for part in everybody for position in part) == list(range(1, 43))
    assert {len(part) for part in everybody} == {14}
    shares.leave(session, reviewer, review, reviewer.id)
    assert part_of(session, review, reviewer) == []
    assert sorted(part_of(session, review, owner) + part_of(session, review, third)) == list(
        range(1, 43)
    )
    assert sum(row.decision == "keep" for row in queue_of(session, review)) == 10


def test_taking_twice_is_taking_once_and_only_owners_take_others_out(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for _ in range(2):
        shares.take(session, owner, review)
    assert [row.name for row in shares.list_sharers(session, review)] == [owner.name]
    with pytest.raises(Forbidden, match="another person's part"):
        shares.leave(session, reviewer, review, owner.id)
    shares.take(session, reviewer, review)
    shares.leave(session, owner, review, reviewer.id)
    assert [row.user_id for row in shares.list_sharers(session, review)] == [owner.id]


def test_the_next_one_and_acts_on_a_whole_view_keep_to_the_part(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for user in (owner, reviewer):
        shares.take(session, user, review)
    hers = Filters(part=reviewer.id)
    following = queue_pages.next_undecided(session, review, "queue", hers, 4)
    assert following is not None
    assert following.position == 7
    act = decisions.decide_all(session, reviewer, review, hers, Choice("keep"), "key", expected=20)
    assert act.count == 20
    assert {row.position for row in queue_of(session, review) if row.decision} == set(
        part_of(session, review, reviewer)
    )
    assert shares.sizes(session, review, 2) == [(22, 22), (20, 0)]


def test_the_api_shares_and_says_how_far_each_is(
    client: TestClient, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
    address = f"/api/v1/reviews/{review.id}"
    assert client.get(f"{address}/parts").json() == []
    (mine,) = client.post(f"{address}/parts").json()
    assert (mine["user_id"], mine["name"], mine["total"], mine["undecided"]) == (
        owner.id,
        owner.name,
        42,
        42,
    )
    assert len(client.get(f"{address}/suggestions?part={owner.id}&limit=50").json()["items"]) == 42
    assert client.delete(f"{address}/parts/{owner.id}").json() == []
    assert client.get(f"{address}/suggestions?part={owner.id}").json()["items"] == []
    assert client.get(f"{address}/suggestions?part=4711").status_code == 422


@pytest.mark.slow
def test_pages_share_by_plain_forms_and_say_when_a_part_is_no_more(
    client: TestClient, reviewer_client: TestClient, database: Database, owner: User, reviewer: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
    address = f"/reviews/{review.id}"
    for browser, user in ((client, owner), (reviewer_client, reviewer)):
        answer = browser.post(f"{address}/parts", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{address}?part={user.id}",
        )
    assert "22 images in this view" in client.get(f"{address}?part={owner.id}").text
    assert "Your part" in client.get(f"{address}/standing").text
    assert (
        reviewer_client.post(f"{address}/parts", data={"leaves": str(owner.id)}).status_code == 403
    )
    client.post(f"{address}/parts", data={"leaves": str(reviewer.id)})
    assert (
        "no longer takes a part of this review"
        in reviewer_client.get(f"{address}?part={reviewer.id}").text
    )
