"""When to stop: precision of suggestions, its interval, likely remaining errors; and activity."""

import math
import random
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from scipy.stats import binomtest

from backend.core.db import Database
from backend.core.models import Review, User
from backend.review.deciding import decisions
from backend.review.deciding.decision_log import Choice
from backend.review.insight import stopping
from backend.review.insight.stopping import Outlook, Stretch
from tests.reviewing import a_ready_review, decide, queue_of


@pytest.fixture
def review(database: Database) -> Review:
    with database.transaction() as session:
        return a_ready_review(session, per_class=60)


def queue_after(
    depth: int, share: Callable[[int], float], seed: int, count: int = 3000
) -> tuple[list[Stretch], int]:
    """Simulate `depth` decisions where this share of suggestions is right; and the errors left."""
    drawn = random.Random(seed)
    right = [drawn.random() < share(position) for position in range(1, count + 1)]
    stretches = [
        Stretch(at + 1, at + 20, 20, sum(right[at : at + 20])) for at in range(0, depth, 20)
    ]
    return stretches, sum(right[depth:])


def outlook(stretches: list[Stretch], count: int = 3000) -> Outlook:
    return stopping.outlook(Review(suggestion_count=count), stretches)


# ── how often suggestions were right ──────────────────────────────────────────────────────────────


def test_the_share_goes_by_stretches_of_the_queue(
    database: Database, review: Review, owner: User
) -> None:
    with database.transaction() as session:
        images = [row.image_id for row in queue_of(session, review)]
        decisions.decide_many(session, owner, review, images[:4], Choice("remove"), "a")
        decisions.decide_many(session, owner, review, images[4:10], Choice("keep"), "b")
        decide(session, owner, review, images[24], "unsure")
        found = stopping.confirm_rate(session, review)
    assert found == [Stretch(1, 10, 10, 4), Stretch(21, 30, 1, 0)]


@pytest.mark.parametrize(
    ("deepest", "width"),
    [(0, 10), (120, 10), (121, 20), (1000, 100), (50_000, 5000), (400_000, 50_000)],
)
def test_there_are_never_more_stretches_than_fit_a_chart(deepest: int, width: int) -> None:
    assert stopping._width(deepest) == width
    assert math.ceil(deepest / width) <= stopping.MOST_STRETCHES


@pytest.mark.parametrize(("confirmed", "decided"), [(0, 10), (3, 50), (10, 10), (25, 50), (1, 1)])
def test_the_limits_are_wilsons(confirmed: int, decided: int) -> None:
    wilson = binomtest(confirmed, decided).proportion_ci(0.95, method="wilson")
    assert Stretch(1, 50, decided, confirmed).interval == pytest.approx(
        (wilson.low, wilson.high), abs=1e-12
    )


# ── what is likely to be left ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "share",
    [
        lambda at: 0.8 * math.exp(-at / 200),
        lambda at: 0.85 / (1 + math.exp((at - 200) / 70)),
        lambda at: 0.9 / (1 + (at / 100) ** 2),
    ],
    ids=["exponential", "a soft step", "a long tail"],
)
@pytest.mark.parametrize("depth", [300, 400])
def test_the_limits_hold_what_is_truly_left_in_most_queues(
    share: Callable[[int], float], depth: int
) -> None:
    """Less often than 95 %: the shape of an unseen queue is unknown."""
    inside = 0
    for seed in range(30):
        stretches, left = queue_after(depth, share, seed)
        found = outlook(stretches)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= left <= found.high
    assert inside >= 20


def test_going_on_narrows_the_limits() -> None:
    widths = []
    for depth in (200, 400, 800):
        found = outlook(queue_after(depth, lambda at: 0.8 * math.exp(-at / 150), seed=1)[0])
        assert found.left is not None
        assert found.low is not None
        assert found.high is not None
        assert 0 <= found.low <= found.left <= found.high <= found.undecided == 3000 - depth
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


def test_nothing_is_foretold_before_the_share_falls() -> None:
    found = outlook([Stretch(at, at + 19, 20, 18) for at in range(1, 200, 20)])
    assert (found.left, found.low, found.high) == (None, None, None)
    assert "Too early" in found.sentence


@pytest.mark.parametrize("confirmed", [0, 10])
def test_all_alike_and_gaps_do_no_harm(confirmed: int) -> None:
    found = outlook([Stretch(1, 10, 10, confirmed), Stretch(2001, 2010, 10, confirmed)])
    assert found.undecided == 2980


def test_few_decisions_foretell_nothing_and_all_leave_nothing() -> None:
    assert "Too few decisions" in outlook([Stretch(1, 10, 10, 9)]).sentence
    assert outlook([]).left is None
    assert outlook([Stretch(1, 10, 10, 9)], count=10) == Outlook(
        0, "Every image is decided.", 0, 0, 0
    )


def test_fifty_thousand_images_are_no_burden() -> None:
    stretches, _ = queue_after(400, lambda at: math.exp(-at / 100), seed=2)
    assert len(stopping._ahead(stretches, 50_000)) < 1000
    assert sum(images for _, images in stopping._ahead(stretches, 50_000)) == 49_600


# ── over the API and on the page ──────────────────────────────────────────────────────────────────


@pytest.fixture
def begun(database: Database, review: Review, owner: User, reviewer: User) -> Review:
    """30 of 126 decided: 20 by the owner, 10 by the reviewer; the first 15 removed."""
    with database.transaction() as session:
        images = [row.image_id for row in queue_of(session, review)]
        decisions.decide_many(session, owner, review, images[:15], Choice("remove"), "a")
        decisions.decide_many(session, owner, review, images[15:20], Choice("unsure"), "b")
        decisions.decide_many(session, reviewer, review, images[20:30], Choice("keep"), "c")
    return review


def test_the_api_says_when_to_stop(client: TestClient, begun: Review) -> None:
    found = client.get(f"/api/v1/reviews/{begun.id}/stopping").json()
    assert [
        (one["first"], one["last"], one["decided"], one["confirmed"]) for one in found["stretches"]
    ] == [
        (1, 10, 10, 10),
        (11, 20, 10, 5),
        (21, 30, 10, 0),
    ]
    assert (found["window"], found["confirmed"], found["stop"], found["undecided"]) == (
        30,
        15,
        False,
        96,
    )
    assert found["left_low"] < found["left"] < found["left_high"] <= 96
    assert "undecided images would be removed or relabelled too" in found["left_sentence"]


def test_the_api_says_who_did_what(
    client: TestClient, begun: Review, owner: User, reviewer: User, database: Database
) -> None:
    found = client.get(f"/api/v1/reviews/{begun.id}/people").json()
    assert [
        (one["name"], one["decided"], one["remove"], one["keep"], one["unsure"]) for one in found
    ] == [
        (owner.name, 20, 15, 0, 5),
        (reviewer.name, 10, 0, 10, 0),
    ]
    assert all(one["last_at"] for one in found)
    with database.transaction() as session:
        session.delete(session.get_one(User, reviewer.id))
    left = client.get(f"/api/v1/reviews/{begun.id}/people").json()[1]
    assert (left["user_id"], left["name"], left["decided"]) == (None, None, 10)


def test_the_page_shows_both_also_as_a_fragment(
    client: TestClient, begun: Review, owner: User
) -> None:
    address = f"/reviews/{begun.id}/standing"
    whole, fragment = (
        client.get(address).text,
        client.get(address, headers={"HX-Request": "true"}).text,
    )
    for text in (whole, fragment):
        assert f"{owner.name}</a> (you)" in text
        assert "Of the last 30 decisions, 15 removed or relabelled an image." in text
        assert "11–20" in text
    assert "<html" in whole
    assert "<html" not in fragment


def test_before_anything_is_decided_the_page_says_so(client: TestClient, review: Review) -> None:
    text = client.get(f"/reviews/{review.id}/standing").text
    assert "No one has decided on an image yet." in text
    assert "After 20 more" in text
