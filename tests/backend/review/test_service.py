"""Reading a review: pages by rank, filters, counts, changes, and the advice to stop."""

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.core.errors import Conflict, Invalid, NotFound
from backend.core.models import Review, Suggestion, User
from backend.review import service
from backend.review.insight import wording
from backend.review.insight.wording import Signal
from backend.review.queue import counts, orderings, queue_pages
from backend.review.queue.filters import Filters, Vocabulary, check
from backend.review.queue.orderings import Order
from tests.reviewing import a_ready_review, decide, queue_of, undo
from worker.pipeline.scoring.job import brought_by, in_turn

ORDERS: tuple[Order, ...] = ("queue", "accuracy", "label")
SOME_FILTERS = (
    Filters(),
    Filters(label=1),
    Filters(predicted=2),
    Filters(label=1, predicted=2),
    Filters(decision="undecided"),
    Filters(decision="decided"),
    Filters(decision="remove"),
    Filters(label=0, decision="undecided"),
    Filters(predicted=1, decision="keep"),
)


@pytest.fixture
def begun(session: Session, owner: User, reviewer: User) -> Review:
    """A review with 42 suggestions, ten of them decided by two people."""
    review = a_ready_review(session)
    actions = ("remove", "keep", "unsure", "remove", "keep")
    for place, suggestion in enumerate(queue_of(session, review)[:10]):
        decide(
            session,
            owner if place % 2 else reviewer,
            review,
            suggestion.image_id,
            actions[place % 5],
        )
    return review


def matches(row: Suggestion, filters: Filters) -> bool:
    """The filters' meaning, once more and without SQL."""
    decision = {
        None: True,
        "undecided": row.decision is None,
        "decided": row.decision is not None,
    }.get(filters.decision, row.decision == filters.decision)
    return (
        decision
        and filters.label in (None, row.label)
        and filters.predicted in (None, row.predicted)
    )


def expected_ids(session: Session, review: Review, order: Order, filters: Filters) -> list[int]:
    rows = [row for row in queue_of(session, review) if matches(row, filters)]
    return [
        row.image_id
        for row in sorted(rows, key=lambda row: getattr(row, orderings.RANKS[order].key))
    ]


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────


def forwards(session: Session, review: Review, order: Order, filters: Filters) -> list[int]:
    """The images met on the way from the first page to the last, four at a time."""
    met: list[int] = []
    after, more = 0, True
    while more:
        page = queue_pages.page(session, review, order=order, filters=filters, after=after, limit=4)
        assert page.has_before == bool(met)
        met += [row.image_id for row in page.items]
        more = page.has_after
        after = getattr(page.items[-1], orderings.RANKS[order].key) if page.items else 0
    return met


def backwards(session: Session, review: Review, order: Order, filters: Filters) -> list[int]:
    """The images met on the way back, in order of rank again."""
    met: list[int] = []
    before, more = 2**31 - 1, True
    while more:
        page = queue_pages.page(
            session, review, order=order, filters=filters, before=before, limit=4
        )
        assert page.has_after == bool(met)
        met = [row.image_id for row in page.items] + met
        more = page.has_before
        before = getattr(page.items[0], orderings.RANKS[order].key) if page.items else 1
    return met


@pytest.mark.parametrize("order", ORDERS)
def test_walking_page_by_page_in_either_direction_meets_every_match_once_and_in_order(
    session: Session, begun: Review, order: Order
) -> None:
    for filters in SOME_FILTERS:
        wanted = expected_ids(session, begun, order, filters)
        assert forwards(session, begun, order, filters) == wanted, filters
        assert backwards(session, begun, order, filters) == wanted, filters


def test_a_page_behind_the_last_rank_is_empty_and_knows_that_there_is_something_before(
    session: Session, begun: Review
) -> None:
    page = queue_pages.page(session, begun, after=42)
    assert (page.items, page.has_before, page.has_after) == ([], True, False)


def test_each_order_numbers_the_images_from_1_without_gaps(session: Session, begun: Review) -> None:
    for order in ORDERS:
        rows = queue_pages.page(session, begun, order=order, limit=100).items
        assert [getattr(row, orderings.RANKS[order].key) for row in rows] == list(range(1, 43))


def test_another_review_of_the_same_run_is_not_mixed_in(session: Session, begun: Review) -> None:
    other = a_ready_review(session, name="Others")
    assert {row.review_id for row in queue_pages.page(session, other, limit=100).items} == {
        other.id
    }
    assert counts.by_decision(session, other, Filters())[None] == 42


def test_the_default_queue_takes_both_rankings_in_turn_and_each_image_once() -> None:
    generator = np.random.default_rng(5)
    accuracy, label = generator.permutation(40) + 1, generator.permutation(40) + 1
    by_accuracy, by_label = np.argsort(accuracy), np.argsort(label)
    in_turns = [image for pair in zip(by_accuracy, by_label, strict=True) for image in pair]
    wanted = list(dict.fromkeys(in_turns))
    positions = in_turn(accuracy, label)
    assert list(np.argsort(positions)) == wanted
    words = brought_by(accuracy, label, positions)
    assert words[by_accuracy[0]] in ("accuracy", "both")
    for image in range(40):
        first, second = accuracy[image] <= positions[image], label[image] <= positions[image]
        assert words[image] == ("both" if first and second else "accuracy" if first else "label")


# ── filters ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "filters",
    [Filters(label=3), Filters(predicted=99), Filters(decision="perhaps")],
)
def test_a_filter_for_something_that_does_not_exist_is_refused_in_words(filters: Filters) -> None:
    with pytest.raises(Invalid, match=r"no class number|no decision"):
        check(filters, Vocabulary(["left", "middle", "right"], {1: "olga"}, [1], {}))


def test_counts_agree_with_counting_by_hand(session: Session, begun: Review) -> None:
    for filters in SOME_FILTERS:
        rows = [row for row in queue_of(session, begun) if matches(row, filters)]
        counted = counts.by_decision(session, begun, filters)
        assert counted == {
            kind: sum(row.decision == kind for row in rows) for kind in (None, *service.DECISIONS)
        }, filters


def test_only_what_narrows_the_view_counts_as_a_filter() -> None:
    assert not Filters()
    assert Filters(label=0)
    assert Filters(label=0, decision="undecided").address() == {"label": 0, "decision": "undecided"}


# ── what comes next ───────────────────────────────────────────────────────────────────────────────


def test_the_next_one_is_the_first_undecided_behind_a_rank(session: Session, begun: Review) -> None:
    assert queue_pages.next_undecided(session, begun, "queue", Filters(), 0).position == 11
    assert queue_pages.next_undecided(session, begun, "queue", Filters(), 20).position == 21


def test_after_the_last_one_the_search_begins_at_the_start(session: Session, begun: Review) -> None:
    assert queue_pages.next_undecided(session, begun, "queue", Filters(), 42).position == 11


def test_in_a_view_of_decided_images_the_next_one_is_a_decided_one(
    session: Session, begun: Review
) -> None:
    found = queue_pages.next_undecided(session, begun, "queue", Filters(decision="keep"), 0)
    assert found.decision == "keep"


@pytest.mark.slow
def test_when_all_are_decided_there_is_no_next_one(
    session: Session, begun: Review, owner: User
) -> None:
    for suggestion in queue_of(session, begun):
        if suggestion.decision is None:
            decide(session, owner, begun, suggestion.image_id, "keep")
    assert queue_pages.next_undecided(session, begun, "queue", Filters(), 0) is None


def test_an_address_keeps_its_image_whatever_the_filters_say(
    session: Session, begun: Review
) -> None:
    assert queue_pages.at_rank(session, begun, "queue", 3).position == 3
    assert queue_pages.at_rank(session, begun, "queue", 43) is None


# ── progress, changes ─────────────────────────────────────────────────────────────────────────────


def test_progress_counts_everybody_and_oneself(
    session: Session, begun: Review, owner: User, reviewer: User
) -> None:
    seen = counts.progress(session, begun, owner)
    assert (seen.total, seen.decided, seen.undecided) == (42, 10, 32)
    assert (seen.remove, seen.keep, seen.unsure, seen.relabel) == (4, 4, 2, 0)
    assert seen.mine == counts.progress(session, begun, reviewer).mine == 5


def test_changes_come_in_the_order_they_were_made(
    session: Session, begun: Review, owner: User
) -> None:
    seen = begun.last_change
    assert queue_pages.changes_since(session, begun, seen) == []
    latest = queue_of(session, begun)[30], queue_of(session, begun)[20]
    for suggestion in latest:
        decide(session, owner, begun, suggestion.image_id, "keep")
    assert [row.image_id for row in queue_pages.changes_since(session, begun, seen)] == [
        row.image_id for row in latest
    ]
    undo(session, owner, begun)
    assert [row.decision for row in queue_pages.changes_since(session, begun, seen)] == [
        "keep",
        None,
    ]


def test_too_many_changes_are_not_told_one_by_one(
    session: Session, begun: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pages, "MOST_CHANGES", 9)
    assert queue_pages.changes_since(session, begun, 0) is None
    monkeypatch.setattr(queue_pages, "MOST_CHANGES", 10)
    assert len(queue_pages.changes_since(session, begun, 0)) == 10


def test_confusion_holds_every_image_once_the_most_frequent_pair_first(
    session: Session, begun: Review
) -> None:
    pairs = counts.confusion(session, begun)
    assert sum(count for _, _, count, _ in pairs) == 42
    assert sum(decided for _, _, _, decided in pairs) == 10
    assert [count for _, _, count, _ in pairs] == sorted(
        (count for _, _, count, _ in pairs), reverse=True
    )
    label, predicted, count, _ = pairs[0]
    assert count == len(
        expected_ids(session, begun, "queue", Filters(label=label, predicted=predicted))
    )


# ── whether to continue ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("window", "confirmed", "stop", "words"),
    [
        (0, 0, False, "After 20 more decisions, we’ll tell you"),
        (19, 0, False, "After 1 more decision, we’ll"),
        (20, 1, True, "unlikely to pay"),
        (
            50,
            3,
            True,
            "Of the last 50 decisions, 3 removed or relabelled an image. Continuing is unlikely",
        ),
        (50, 5, False, "still pays a little"),
        (50, 15, False, "worth it"),
    ],
)
def test_the_advice_follows_the_share_of_confirmed_suggestions(
    window: int, confirmed: int, stop: bool, words: str
) -> None:
    # The confirmed at even distances, the first at the start.
    flags = [n * confirmed // window != (n - 1) * confirmed // window for n in range(window)]
    assert sum(flags) == confirmed
    advice = counts.advise(flags)
    assert advice.stop == stop
    assert words in advice.sentence


def test_the_advice_to_stop_does_not_flip_at_a_single_decision() -> None:
    rare = [n % 13 == 0 for n in range(104)]
    assert counts.advise(rare).stop
    # Around the limit of one in ten, the advice stays what it was.
    flips = [counts.advise([*rare[:end], True, False, False]).stop for end in range(60, 104)]
    assert all(flips)
    assert counts.advise([True] * 5 + [False] * 20 + [True] + [False] * 8).stop is False
    # A stretch that is worth continuing turns it round.
    assert counts.advise(rare + [True] * 10).stop is False


@pytest.mark.slow
def test_the_advice_looks_at_the_latest_fifty_in_force(session: Session, owner: User) -> None:
    review = a_ready_review(session, per_class=40)
    queue = queue_of(session, review)
    for place, suggestion in enumerate(queue[:60]):
        decide(session, owner, review, suggestion.image_id, "remove" if place < 12 else "keep")
    advice = counts.advice(session, review)
    assert (advice.window, advice.confirmed, advice.stop) == (50, 2, True)
    undo(session, owner, review)
    assert counts.advice(session, review).confirmed == 3


# ── who may look ──────────────────────────────────────────────────────────────────────────────────


def test_a_review_that_does_not_exist_is_not_found(session: Session, owner: User) -> None:
    with pytest.raises(NotFound):
        service.get(session, owner, 99)


def test_images_of_another_review_are_not_found(session: Session, begun: Review) -> None:
    foreign = queue_of(session, a_ready_review(session, name="Others"))[0].image_id
    own = queue_of(session, begun)[0].image_id
    with pytest.raises(NotFound, match="no such image in this review"):
        queue_pages.read_images(session, begun, [own, foreign])


def test_until_the_scoring_is_done_nothing_can_be_decided(session: Session, begun: Review) -> None:
    begun.state = "queued"
    with pytest.raises(Conflict, match="still being computed"):
        service.check_ready(begun)


def test_the_name_of_somebody_who_left_is_left_out(
    session: Session, begun: Review, owner: User, reviewer: User
) -> None:
    session.delete(session.get_one(User, reviewer.id))
    session.flush()
    session.expire_all()
    rows = queue_pages.page(session, begun, limit=10).items
    assert queue_pages.read_names(session, rows) == {owner.id: "olga"}
    assert (
        session.scalar(
            select(Suggestion.decision).where(
                Suggestion.review_id == begun.id, Suggestion.position == 1
            )
        )
        == "remove"
    )


# ── words ─────────────────────────────────────────────────────────────────────────────────────────


def test_shares_run_from_all_to_nothing() -> None:
    assert wording.share(1, 50) == 1.0
    assert wording.share(50, 50) == 0.0
    assert wording.share(1, 1) == 1.0


def test_nothing_is_called_100_percent_that_is_not() -> None:
    assert wording.percent(0.99999) == "99.9 %"
    assert wording.percent(1.0) == "100.0 %"
    assert wording.percent(0.1 + 0.2) == "30.0 %"


def place(
    method: str, by: str, accuracy: float, label: float, *, agrees: bool = False, **why: str
) -> str:
    harm = Signal(method, accuracy, 1, why.get("harm"))
    return wording.explain_place(
        by, harm, Signal("margin", label, 1, why.get("wrong")), agrees=agrees
    )


def place_short(method: str, by: str, accuracy: float, label: float, **why: str) -> str:
    harm = Signal(method, accuracy, 1, why.get("harm"))
    return wording.explain_place_short(by, harm, Signal("margin", label, 1, why.get("wrong")))


def test_an_image_that_hurts_although_the_model_agrees_comes_with_advice() -> None:
    sentence = place("tracin", "accuracy", -0.1, 0.5, agrees=True)
    assert sentence == (
        "Suggested because it hurts accuracy, though the model agrees with its label: look for "
        "what is odd about it, and normally keep it"
    )
    assert "keep" not in place("tracin", "both", -0.1, -0.1, agrees=True)
    assert "keep" not in place("tracin", "accuracy", -0.1, 0.5)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("no_validation", "Can’t be judged: no validation image of this class."),
        ("few_validation", "Can’t be judged: fewer than 3 validation images of this class."),
        ("not_learned", "Can’t be judged: the model has not learned this class."),
    ],
)
def test_what_cannot_be_judged_is_no_reason_and_says_why(reason: str, words: str) -> None:
    signal = Signal("tracin", -0.1, 1, reason)
    assert wording.describe_signal(signal, 101) == words
    assert wording.bar(signal, 101) == 0.0
    assert place("tracin", "accuracy", -0.1, 0.5, harm=reason).startswith("Next in its ranking")
    assert place("tracin", "both", -0.1, -0.1, harm=reason) == (
        "Suggested because its label looks wrong"
    )
    assert place_short("tracin", "accuracy", -0.1, 0.5, harm=reason) == "Can’t be judged"
    assert place_short("tracin", "both", -0.1, -0.1, wrong=reason) == "Hurts accuracy"


def test_only_a_harmful_image_is_said_to_hurt() -> None:
    assert wording.hurts_accuracy(-0.1, 1, 101) == "Hurts more than any other image."
    assert wording.hurts_accuracy(0.1, 1, 101) == "The model does no better without it."
    sure = wording.hurts_accuracy(-0.1, 1, 101, error=0.05)
    assert sure == "Surely hurts, and more than any other image."
    unsure = wording.hurts_accuracy(-0.1, 1, 101, error=0.07)
    assert unsure == "May hurt, but too few validation images show it to be sure."
    assert (
        wording.describe_signal(Signal("tracin", -0.1, 1), 101)
        == "Hurts more than any other image."
    )
    assert (
        wording.describe_signal(Signal("outlier", -0.1, 51), 101)
        == "More so than 50.0 % of the images."
    )
    assert "chance" in wording.describe_signal(Signal("random", -0.1, 51), 101)
    assert (
        place("outlier", "both", -0.1, -0.1)
        == "Suggested because it looks unlike the others and its label looks wrong"
    )
    assert wording.label_looks_wrong(-0.1, 51, 101) == "Looks more wrong than 50.0 % of the images."
    assert wording.label_looks_wrong(0.0, 51, 101) == (
        "The model usually agreed with this label during training."
    )


def test_an_image_that_nothing_speaks_against_has_no_bar_and_no_such_reason() -> None:
    assert wording.bar(Signal("tracin", 0.1, 1), 101) == 0.0
    assert wording.bar(Signal("margin", 0.0, 1), 101) == 0.0
    assert wording.bar(Signal("tracin", -0.1, 1), 101) == 1.0
    assert wording.bar(Signal("outlier", 0.1, 51), 101) == 0.5  # has no sign that could deny it
    assert (
        place("tracin", "accuracy", 0.1, -0.1)
        == "Next in its ranking, though that says nothing against it"
    )
    assert (
        place("tracin", "both", 0.1, 0.1)
        == "Next in both rankings, though neither says anything against it"
    )
    assert place("tracin", "both", 0.1, -0.1) == "Suggested because its label looks wrong"
    assert place_short("tracin", "accuracy", 0.1, -0.1) == "Next in order"
    assert place_short("tracin", "both", -0.1, 0.1) == "Hurts accuracy"
    assert place_short("tracin", "both", -0.1, -0.1) == "Accuracy and label"


def test_a_prediction_says_how_sure_it_is_and_what_the_label_gets() -> None:
    assert (
        wording.prediction("cat", 0.97, "cat", 0.97)
        == "The model agrees: cat, almost certain (97 %)."
    )
    assert (
        wording.prediction("dog", 0.6, "cat", 0.004)
        == "The model sees dog, not very sure (60 %). It gives cat a chance of less than 1 %."
    )
