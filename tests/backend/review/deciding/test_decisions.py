"""Deciding and undoing: one act at a time, each key once, nobody's decisions lost."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.models import Review, Suggestion, User
from backend.review.deciding import decisions
from backend.review.deciding import undo as undoing
from backend.review.deciding.decision_log import Choice
from backend.review.queue import queue_pages
from backend.review.queue.filters import Filters
from tests.reviewing import a_ready_review, decide, decisions_of, queue_of, undo


def standing(session: Session, review: Review, place: int) -> Suggestion:
    """Return the current suggestion at that place of the queue (from 0)."""
    return queue_of(session, review)[place]


def image_at(session: Session, review: Review, place: int) -> int:
    return standing(session, review, place).image_id


def other_label(suggestion: Suggestion) -> int:
    return (suggestion.label + 1) % 3


# ── a single decision ─────────────────────────────────────────────────────────────────────────────


def test_a_decision_is_in_force_and_in_the_history(
    session: Session, review: Review, owner: User
) -> None:
    suggestion = standing(session, review, 0)
    act = decide(session, owner, review, suggestion.image_id, "relabel", other_label(suggestion))
    now = standing(session, review, 0)
    assert (now.decision, now.decision_label, now.decided_by) == (
        "relabel",
        other_label(now),
        owner.id,
    )
    assert now.decided_at is not None
    assert now.change == review.last_change == 1
    (kept,) = decisions_of(session, review)
    assert (kept.id, kept.image_id, kept.user_id, kept.action, kept.previous_id) == (
        now.decision_id,
        now.image_id,
        owner.id,
        "relabel",
        None,
    )
    assert (act.count, [row.image_id for row in act.items]) == (1, [now.image_id])


def test_deciding_again_replaces_and_keeps_the_earlier_one(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image_id = image_at(session, review, 0)
    decide(session, owner, review, image_id, "remove")
    decide(session, reviewer, review, image_id, "keep")
    first, second = decisions_of(session, review)
    assert second.previous_id == first.id
    now = standing(session, review, 0)
    assert (now.decision, now.decided_by) == ("keep", reviewer.id)


def test_the_same_key_twice_is_one_decision(session: Session, review: Review, owner: User) -> None:
    image_id, key = image_at(session, review, 0), str(uuid4())
    for _ in range(2):
        act = decisions.decide(session, owner, review, image_id, Choice("remove"), key)
        assert (act.count, act.items[0].decision) == (1, "remove")
    assert len(decisions_of(session, review)) == review.last_change == 1


def test_a_repeated_key_does_not_bring_back_what_was_replaced_since(
    session: Session, review: Review, owner: User
) -> None:
    image_id, key = image_at(session, review, 0), str(uuid4())
    decisions.decide(session, owner, review, image_id, Choice("remove"), key)
    decide(session, owner, review, image_id, "keep")
    act = decisions.decide(session, owner, review, image_id, Choice("remove"), key)
    assert act.items[0].decision == "keep"


def test_the_key_of_another_person_is_refused(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image_id, key = image_at(session, review, 0), str(uuid4())
    decisions.decide(session, owner, review, image_id, Choice("remove"), key)
    with pytest.raises(Conflict, match="another person"):
        decisions.decide(session, reviewer, review, image_id, Choice("keep"), key)
    assert standing(session, review, 0).decision == "remove"


def test_the_same_key_in_another_review_is_another_act(
    session: Session, review: Review, owner: User
) -> None:
    other, key = a_ready_review(session, name="Others"), str(uuid4())
    for one in (review, other):
        decisions.decide(session, owner, one, image_at(session, one, 0), Choice("remove"), key)
    assert standing(session, other, 0).decision == "remove"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("delete"), "no decision"),
        (Choice("relabel"), "Choose the class"),
        (Choice("relabel", 3), "Choose the class"),
        (Choice("relabel", -1), "Choose the class"),
        (Choice("remove", 1), "Only “relabel” takes a class"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(
    session: Session, review: Review, owner: User, choice: Choice, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        decisions.decide(session, owner, review, image_at(session, review, 0), choice, "key")


def test_the_label_that_it_has_already_is_refused_in_words(
    session: Session, review: Review, owner: User
) -> None:
    suggestion = standing(session, review, 0)
    with pytest.raises(Invalid, match="already has this label"):
        decide(session, owner, review, suggestion.image_id, "relabel", suggestion.label)


@pytest.mark.parametrize("key", ["", "x" * 37])
def test_a_key_must_fit(session: Session, review: Review, owner: User, key: str) -> None:
    with pytest.raises(Invalid, match="1 to 36"):
        decisions.decide(session, owner, review, image_at(session, review, 0), Choice("keep"), key)


def test_an_image_of_another_data_set_is_not_found(
    session: Session, review: Review, owner: User
) -> None:
    foreign = image_at(session, a_ready_review(session, name="Others"), 0)
    with pytest.raises(NotFound):
        decide(session, owner, review, foreign, "remove")
    with pytest.raises(NotFound):
        decisions.decide_many(
            session, owner, review, [image_at(session, review, 0), foreign], Choice("remove"), "key"
        )
    assert decisions_of(session, review) == []


def test_nothing_is_decided_before_the_scoring_is_done(
    session: Session, review: Review, owner: User
) -> None:
    review.state = "queued"
    with pytest.raises(Conflict, match="still being computed"):
        decide(session, owner, review, image_at(session, review, 0), "keep")


def test_of_two_people_at_the_same_moment_both_are_in_the_history(
    database: Database, owner: User, reviewer: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        images = [row.image_id for row in queue_of(session, review)[:8]]

    def all_of(user: User) -> None:
        for image_id in images:
            with database.transaction() as session:
                decide(
                    session,
                    user,
                    session.get_one(Review, review.id),
                    image_id,
                    "keep" if user is owner else "remove",
                )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(all_of, (owner, reviewer)))
    with database.transaction() as session:
        made = decisions_of(session, review)
        assert len(made) == session.get_one(Review, review.id).last_change == 16
        for image_id in images:
            first, second = (one for one in made if one.image_id == image_id)
            assert (first.previous_id, second.previous_id) == (None, first.id)


def test_the_same_key_sent_twice_at_the_same_moment_is_one_decision(
    database: Database, owner: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session)
        image_id = image_at(session, review, 0)

    def send(_: int) -> int:
        with database.transaction() as session:
            return decisions.decide(
                session,
                owner,
                session.get_one(Review, review.id),
                image_id,
                Choice("remove"),
                "one key",
            ).count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(4))) == [1, 1, 1, 1]
    with database.transaction() as session:
        assert len(decisions_of(session, review)) == 1


# ── many at once ──────────────────────────────────────────────────────────────────────────────────


def test_a_selection_is_decided_and_taken_back_as_one(
    session: Session, review: Review, owner: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)[:5]]
    act = decisions.decide_many(session, owner, review, images, Choice("unsure"), "key")
    assert (act.count, {row.decision for row in act.items}) == (5, {"unsure"})
    assert [row.decision for row in queue_of(session, review)[:6]] == ["unsure"] * 5 + [None]
    assert {one.batch for one in decisions_of(session, review)} == {"key"}
    taken = undo(session, owner, review)
    assert (taken.count, taken.left) == (5, 0)
    assert all(row.decision is None and row.decided_by is None for row in queue_of(session, review))


def test_a_selection_under_the_same_key_is_one_act(
    session: Session, review: Review, owner: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)[:5]]
    for _ in range(2):
        assert (
            decisions.decide_many(session, owner, review, images, Choice("keep"), "key").count == 5
        )
    assert len(decisions_of(session, review)) == 5


def test_images_that_have_the_new_label_already_are_left_alone(
    session: Session, review: Review, owner: User
) -> None:
    act = decisions.decide_many(
        session,
        owner,
        review,
        [row.image_id for row in queue_of(session, review)],
        Choice("relabel", 1),
        "key",
    )
    rows = queue_of(session, review)
    assert act.count == sum(row.label != 1 for row in rows)
    assert all((row.decision is None) == (row.label == 1) for row in rows)


@pytest.mark.parametrize("count", [0, 5001])
def test_a_selection_has_a_size(session: Session, review: Review, owner: User, count: int) -> None:
    with pytest.raises(Invalid, match="at least one image, and at most 5,000"):
        decisions.decide_many(session, owner, review, list(range(count)), Choice("keep"), "key")


# ── a whole view ──────────────────────────────────────────────────────────────────────────────────


def test_a_whole_view_leaves_decided_images_alone(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    mine = next(row for row in queue_of(session, review) if row.label == 1)
    decide(session, reviewer, review, mine.image_id, "keep")
    act = decisions.decide_all(
        session, owner, review, Filters(label=1), Choice("remove"), "key", expected=13
    )
    rows = queue_of(session, review)
    assert act.count == 13
    assert {row.decision for row in rows if row.label == 1 and row.image_id != mine.image_id} == {
        "remove"
    }
    assert {row.decision for row in rows if row.label != 1} == {None}
    assert next(row for row in rows if row.image_id == mine.image_id).decision == "keep"


def test_a_view_of_decided_images_is_meant_as_it_is_said(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    for row in queue_of(session, review)[:4]:
        decide(session, reviewer, review, row.image_id, "unsure")
    assert (
        decisions.decide_all(
            session, owner, review, Filters(decision="unsure"), Choice("keep"), "key", expected=4
        ).count
        == 4
    )
    assert [row.decision for row in queue_of(session, review)[:5]] == ["keep"] * 4 + [None]


def test_a_view_that_changed_since_it_was_counted_is_not_decided(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    decide(session, reviewer, review, image_at(session, review, 0), "keep")
    with pytest.raises(Conflict, match="now holds 41 images, not 42"):
        decisions.decide_all(
            session, owner, review, Filters(), Choice("remove"), "key", expected=42
        )
    assert len(decisions_of(session, review)) == 1


def test_repeating_a_whole_view_does_not_trip_over_the_count_that_it_changed(
    session: Session, review: Review, owner: User
) -> None:
    for _ in range(2):
        assert (
            decisions.decide_all(
                session, owner, review, Filters(), Choice("remove"), "key", expected=42
            ).count
            == 42
        )


def test_a_view_too_large_to_send_back_is_decided_all_the_same(
    session: Session, review: Review, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pages, "MOST_CHANGES", 10)
    act = decisions.decide_all(session, owner, review, Filters(), Choice("remove"), "key")
    assert (act.count, act.items) == (42, [])
    assert undo(session, owner, review).count == 42


# ── undo ──────────────────────────────────────────────────────────────────────────────────────────


def test_undo_brings_back_what_was_in_force_before(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    suggestion = standing(session, review, 0)
    decide(session, reviewer, review, suggestion.image_id, "relabel", other_label(suggestion))
    before = standing(session, review, 0).decided_at
    decide(session, owner, review, suggestion.image_id, "remove")
    act = undo(session, owner, review)
    now = standing(session, review, 0)
    assert (now.decision, now.decision_label, now.decided_by, now.decided_at) == (
        "relabel",
        other_label(now),
        reviewer.id,
        before,
    )
    assert now.change == review.last_change == 3
    assert (act.count, act.left, act.items[0].decision) == (1, 0, "relabel")
    assert decisions_of(session, review)[-1].undoes_id == decisions_of(session, review)[-2].id


def test_undo_goes_back_one_act_after_the_other(
    session: Session, review: Review, owner: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)]
    decide(session, owner, review, images[0], "remove")
    decisions.decide_many(session, owner, review, images[1:4], Choice("keep"), "many")
    decide(session, owner, review, images[0], "unsure")
    seen = []
    for _ in range(3):
        undo(session, owner, review)
        seen.append([row.decision for row in queue_of(session, review)[:4]])
    assert seen == [["remove", "keep", "keep", "keep"], ["remove", None, None, None], [None] * 4]
    with pytest.raises(NotFound, match="nothing of yours"):
        undo(session, owner, review)


def test_nobody_undoes_another_person(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    decide(session, reviewer, review, image_at(session, review, 0), "remove")
    with pytest.raises(NotFound, match="nothing of yours"):
        undo(session, owner, review)
    assert standing(session, review, 0).decision == "remove"


def test_what_somebody_decided_since_stays(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)[:3]]
    decisions.decide_many(session, owner, review, images, Choice("remove"), "key")
    decide(session, reviewer, review, images[1], "keep")
    act = undo(session, owner, review)
    assert (act.count, act.left) == (2, 1)
    assert [row.decision for row in queue_of(session, review)[:3]] == [None, "keep", None]


def test_what_was_taken_back_underneath_does_not_come_back(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image_id = image_at(session, review, 0)
    decide(session, owner, review, image_id, "remove")
    decide(session, reviewer, review, image_id, "keep")
    undo(session, owner, review)
    undo(session, reviewer, review)
    assert standing(session, review, 0).decision is None


def test_a_longer_history_is_spliced_where_its_middle_is_taken_back(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    image_id = image_at(session, review, 0)
    decide(session, owner, review, image_id, "unsure")
    decide(session, reviewer, review, image_id, "remove")
    decide(session, owner, review, image_id, "keep")
    undo(session, reviewer, review)
    assert standing(session, review, 0).decision == "keep"
    undo(session, owner, review)
    assert standing(session, review, 0).decision == "unsure"
    undo(session, owner, review)
    assert standing(session, review, 0).decision is None


def test_the_same_undo_twice_takes_back_one_act(
    session: Session, review: Review, owner: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)[:2]]
    for image_id in images:
        decide(session, owner, review, image_id, "remove")
    for _ in range(2):
        assert undoing.undo(session, owner, review, "key").count == 1
    assert [row.decision for row in queue_of(session, review)[:2]] == ["remove", None]


def test_the_same_undo_of_a_selection_twice_takes_back_one_act(
    session: Session, review: Review, owner: User
) -> None:
    images = [row.image_id for row in queue_of(session, review)[:4]]
    decide(session, owner, review, images[0], "remove")
    decisions.decide_many(session, owner, review, images[1:], Choice("keep"), "many")
    for _ in range(2):
        assert undoing.undo(session, owner, review, "key").count == 3
    assert [row.decision for row in queue_of(session, review)[:4]] == ["remove", None, None, None]


def test_deciding_after_an_undo_can_be_undone_too(
    session: Session, review: Review, owner: User
) -> None:
    image_id = image_at(session, review, 0)
    decide(session, owner, review, image_id, "remove")
    undo(session, owner, review)
    decide(session, owner, review, image_id, "keep")
    undo(session, owner, review)
    assert standing(session, review, 0).decision is None
    assert [one.action for one in decisions_of(session, review)] == [
        "remove",
        "clear",
        "keep",
        "clear",
    ]


def test_the_decisions_of_somebody_who_left_stay(
    session: Session, review: Review, owner: User, reviewer: User
) -> None:
    decide(session, reviewer, review, image_at(session, review, 0), "remove")
    session.delete(session.get_one(User, reviewer.id))
    session.flush()
    session.expire_all()
    now = standing(session, review, 0)
    assert (now.decision, now.decided_by) == ("remove", None)
    assert [one.user_id for one in decisions_of(session, review)] == [None]
