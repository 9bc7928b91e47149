"""Filters by person and bar length, orders by any method: in pages, API and whole-view acts."""

import re
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from backend.core.db import Database
from backend.core.models import Review, Score, Scoring, User
from backend.review.insight import wording
from backend.review.queue import queue_pages
from backend.review.queue.filters import Filters, read_vocabulary
from backend.review.queue.view_state import View
from tests.reviewing import a_ready_review, decide, queue_of


@pytest.fixture
def review(database: Database, owner: User, reviewer: User) -> Review:
    """42 suggestions; the first ten of the queue decided, in turn by both people."""
    with database.transaction() as session:
        review = a_ready_review(session)
        for place, suggestion in enumerate(queue_of(session, review)[:10]):
            decide(
                session,
                owner if place % 2 else reviewer,
                review,
                suggestion.image_id,
                "remove" if place < 5 else "keep",
            )
        return review


def a_scoring(
    session: Session, review: Review, method: str, *, seed: int = 3, **values: Any
) -> dict[int, int]:
    """The review's images ranked by another method: id → rank."""
    scoring = Scoring(**{"run_id": review.run_id, "method": method, "state": "done"} | values)
    session.add(scoring)
    session.flush()
    queue = queue_of(session, review)
    ranks = {
        row.image_id: int(rank) + 1
        for row, rank in zip(
            queue, np.random.default_rng(seed).permutation(len(queue)), strict=True
        )
    }
    session.add_all(
        Score(scoring_id=scoring.id, image_id=image_id, value=float(rank), rank=rank)
        for image_id, rank in ranks.items()
    )
    session.flush()
    return ranks


def asked(client: TestClient, review: Review, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/reviews/{review.id}/suggestions", params={"limit": 500, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


# ── filters ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    "bounds", [(0, 100), (90, 100), (0, 10), (33.3, 66.6), (100, 100), (50, 50)]
)
def test_a_range_holds_exactly_the_images_whose_bar_is_that_long(
    client: TestClient, review: Review, bounds: tuple[float, float]
) -> None:
    least, most = bounds
    for name in ("accuracy", "label"):
        everyone = asked(client, review)
        # A bar that is empty because the value favours the image still counts by its rank.
        shares = {
            card["image_id"]: 100 * wording.share(card[f"{name}_rank"], 42) for card in everyone
        }
        assert all(
            100 * card[f"{name}_share"] in (0, pytest.approx(shares[card["image_id"]]))
            for card in everyone
        )
        wanted = [
            card["image_id"]
            for card in everyone
            if least - 1e-9 <= shares[card["image_id"]] <= most + 1e-9
        ]
        found = asked(client, review, **{f"{name}_min": least, f"{name}_max": most})
        assert [card["image_id"] for card in found] == wanted
        assert len(asked(client, review, **{f"{name}_min": least})) + len(
            asked(client, review, **{f"{name}_max": most})
        ) == 42 + len(wanted)


def test_a_bound_at_an_images_own_bar_keeps_that_image(database: Database, review: Review) -> None:
    with database.transaction(write=False) as session:
        for rank in range(
            1, 21
        ):  # behind them the margin agrees with the label, and every bar is empty
            share = 100 * wording.share(rank, 42)
            page = queue_pages.page(
                session, review, filters=Filters(label_min=share, label_max=share)
            )
            assert [row.label_rank for row in page.items] == [rank]


def test_by_shows_the_decisions_that_are_in_force_of_one_person(
    client: TestClient, review: Review, owner: User, reviewer: User
) -> None:
    assert {card["decision"]["by_id"] for card in asked(client, review, by=owner.id)} == {owner.id}
    assert (
        len(asked(client, review, by=owner.id)) == len(asked(client, review, by=reviewer.id)) == 5
    )
    assert len(asked(client, review, by=reviewer.id, decision="remove")) == 3


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"by": 99}, "no person number 99"),
        ({"accuracy_min": 60, "accuracy_max": 40}, "accuracy_min and accuracy_max are percentages"),
        ({"label_min": 101}, "must be 100.0 or less"),
        ({"label_max": "nan"}, "label_max"),
        ({"order": "forgetting"}, "no order by “Forgetting count” for this training"),
        ({"order": "alphabet"}, "order"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    client: TestClient, review: Review, query: dict[str, Any], words: str
) -> None:
    answer = client.get(f"/api/v1/reviews/{review.id}/suggestions", params=query)
    assert answer.status_code == 422
    assert words in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "by=99",
        "by=me",
        "by=999999999999",
        "accuracy_min=-1",
        "label_min=1e2",
        "label_max=200",
        "accuracy_min=60&accuracy_max=40",
        "label_min=٣",
    ],
)
def test_on_a_page_such_a_filter_is_left_out_with_a_note(
    client: TestClient, review: Review, query: str
) -> None:
    answer = client.get(f"/reviews/{review.id}?{query}")
    assert answer.status_code == 200
    assert "That filter was left out." in answer.text


def test_the_filters_stand_in_every_link_of_the_page_and_in_the_form(
    client: TestClient, review: Review, owner: User
) -> None:
    text = client.get(f"/reviews/{review.id}?by={owner.id}&label_min=12.5&accuracy_max=100").text
    assert f'data-view="by={owner.id}&amp;accuracy_max=100&amp;label_min=12.5"' in text
    assert re.search(r'name="label_min"[^>]* value="12.5"', text)
    assert f'<option value="{owner.id}" selected>you</option>' in text
    assert "“All” are all images of this view" in text
    assert "undecided images of this view" not in text


def test_only_people_who_decided_something_are_offered(
    client: TestClient, database: Database, review: Review
) -> None:
    with database.transaction() as session:
        session.add(User(name="idle", role="reviewer"))
    text = client.get(f"/reviews/{review.id}").text
    assert ">you<" in text
    assert ">idle<" not in text


# ── acts on a whole view ──────────────────────────────────────────────────────────────────────────


def bulk(client: TestClient, review: Review, **body: Any) -> Any:
    return client.post(
        f"/api/v1/reviews/{review.id}/decisions/bulk", json={"client_key": str(uuid4()), **body}
    )


@pytest.mark.slow
def test_an_act_on_a_range_touches_its_undecided_images_only_and_one_undo_takes_it_back(
    client: TestClient, review: Review
) -> None:
    narrow = {"accuracy_min": 50, "label_max": 80}
    counted = client.get(f"/api/v1/reviews/{review.id}/counts", params=narrow).json()
    wanted = {card["image_id"] for card in asked(client, review, decision="undecided", **narrow)}
    assert counted["bulk"] == len(wanted) > 0
    answer = bulk(client, review, action="remove", filter=narrow, expected=counted["bulk"])
    assert answer.status_code == 200, answer.text
    assert {card["image_id"] for card in answer.json()["items"]} == wanted
    undone = client.post(
        f"/api/v1/reviews/{review.id}/undo", json={"client_key": str(uuid4())}
    ).json()
    assert undone["count"] == len(wanted)
    assert len(asked(client, review, decision="decided")) == 10


def test_a_view_of_one_persons_decisions_can_be_decided_anew(
    client: TestClient, review: Review, reviewer: User, owner: User
) -> None:
    counted = client.get(f"/api/v1/reviews/{review.id}/counts", params={"by": reviewer.id}).json()
    assert counted["bulk"] == 5
    assert (
        bulk(client, review, action="unsure", filter={"by": reviewer.id}, expected=5).json()[
            "count"
        ]
        == 5
    )
    assert asked(client, review, by=reviewer.id) == []
    assert len(asked(client, review, by=owner.id)) == 10


@pytest.mark.slow
def test_a_plain_form_decides_on_the_view_that_its_address_says(
    client: TestClient, review: Review
) -> None:
    text = client.get(f"/reviews/{review.id}?label_min=80").text
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    client.post(f"/reviews/{review.id}/decide", data={**fields, "action": "keep", "scope": "view"})
    assert {card["decision"]["action"] for card in asked(client, review, label_min=80)} <= {
        "keep",
        "remove",
    }
    assert all(card["decision"] for card in asked(client, review, label_min=80))
    assert any(card["decision"] is None for card in asked(client, review, label_max=79.9))


# ── orders ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def forgetting(database: Database, review: Review) -> dict[int, int]:
    with database.transaction() as session:
        return a_scoring(session, review, "forgetting")


def test_a_methods_order_is_walked_page_by_page_in_both_directions(
    client: TestClient, review: Review, forgetting: dict[int, int]
) -> None:
    wanted = sorted(forgetting, key=forgetting.__getitem__)
    cards = asked(client, review, order="forgetting")
    assert [card["image_id"] for card in cards] == wanted
    assert [card["rank"] for card in cards] == list(range(1, 43))
    page = client.get(
        f"/api/v1/reviews/{review.id}/suggestions",
        params={"order": "forgetting", "limit": 10, "after": 10},
    ).json()
    assert ([card["rank"] for card in page["items"]], page["previous"], page["next"]) == (
        list(range(11, 21)),
        "11",
        "20",
    )
    back = client.get(
        f"/api/v1/reviews/{review.id}/suggestions",
        params={"order": "forgetting", "limit": 10, "before": 11},
    ).json()
    assert ([card["rank"] for card in back["items"]], back["previous"]) == (
        list(range(1, 11)),
        None,
    )


def test_a_methods_order_goes_through_filters_and_is_painted_after_a_decision(
    client: TestClient, review: Review, forgetting: dict[int, int]
) -> None:
    cards = asked(client, review, order="forgetting", label=1, decision="undecided")
    assert [card["rank"] for card in cards] == sorted(
        forgetting[card["image_id"]] for card in cards
    )
    first = cards[0]["image_id"]
    body = {"client_key": str(uuid4()), "image_id": first, "action": "keep"}
    outcome = client.post(
        f"/api/v1/reviews/{review.id}/decisions?order=forgetting", json=body
    ).json()
    assert outcome["items"][0]["rank"] == forgetting[first]


def test_pages_and_links_keep_a_methods_order(
    client: TestClient, review: Review, forgetting: dict[int, int]
) -> None:
    text = client.get(f"/reviews/{review.id}?order=forgetting&size=25").text
    assert '<option value="forgetting" selected>Forgotten again (Forgetting count)</option>' in text
    assert [
        int(rank) for rank in re.findall(r'<li class="tile"[^>]* data-rank="(\d+)"', text)
    ] == list(range(1, 26))
    focus = client.get(f"/reviews/{review.id}/focus?order=forgetting&at=7").text
    assert 'data-order="forgetting"' in focus
    assert (
        f'value="{next(image for image, rank in forgetting.items() if rank == 7)}" '
        'data-part="image-id"' in focus
    )
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', focus))
    sent = {**fields, "action": "keep", "back": f"/reviews/{review.id}/focus?order=forgetting&at=7"}
    answer = client.post(f"/reviews/{review.id}/decide", data=sent, follow_redirects=False)
    assert re.fullmatch(
        rf"/reviews/{review.id}/focus\?order=forgetting&at=\d+", answer.headers["location"]
    )


def test_an_order_that_was_not_worked_out_gives_way_to_the_usual_one_with_a_note(
    client: TestClient, review: Review
) -> None:
    text = client.get(f"/reviews/{review.id}?order=outlier").text
    assert "was not scored by “Outlier”" in text
    assert 'data-order="queue"' in text


def test_the_latest_scoring_counts_and_a_member_of_an_average_only_alone(
    client: TestClient, database: Database, review: Review
) -> None:
    with database.transaction() as session:
        alone = a_scoring(session, review, "outlier", seed=4, review_id=99)
        a_scoring(session, review, "forgetting", seed=5)
        latest = a_scoring(session, review, "forgetting", seed=6)
        a_scoring(session, review, "forgetting", seed=7, review_id=99)
        a_scoring(session, review, "forgetting", seed=8, state="queued")
        a_scoring(session, review, "tracin", seed=9, state="queued")
    assert asked(client, review, order="forgetting")[0]["image_id"] == min(
        latest, key=latest.__getitem__
    )
    assert asked(client, review, order="outlier")[0]["image_id"] == min(
        alone, key=alone.__getitem__
    )
    assert (
        client.get(
            f"/api/v1/reviews/{review.id}/suggestions", params={"order": "tracin"}
        ).status_code
        == 422
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", Filters.model_fields)
def test_every_field_of_the_model_is_a_filter_of_query_body_and_address(
    client: TestClient, review: Review, database: Database, owner: User, name: str
) -> None:
    base = f"/api/v1/reviews/{review.id}"
    client.post(f"{base}/parts")
    image_id = client.get(f"{base}/suggestions", params={"limit": 1}).json()["items"][0]["image_id"]
    picked = client.post(f"{base}/selections", json={"image_ids": [image_id]}).json()["id"]
    people = dict.fromkeys(("by", "not_by", "part"), owner.id)
    value = {"decision": "keep", "selection": picked, **people}.get(name, 1)

    for listing in ("suggestions", "counts"):
        assert client.get(f"{base}/{listing}", params={name: value}).status_code == 200
    act = {"client_key": "k", "action": "keep", "filter": {name: value}, "expected": 9_999}
    answer = client.post(f"{base}/decisions/bulk", json=act)
    assert (answer.status_code, "9,999" in answer.json()["detail"]) == (409, True)
    assert (
        f'data-view="{name}={value}"'
        in client.get(f"/reviews/{review.id}", params={name: value}).text
    )
    with database.transaction(write=False) as session:
        vocabulary = read_vocabulary(session, owner, review)
    filters = Filters.model_validate({name: value})
    view = View.parse(urlencode(filters.address()), vocabulary)
    assert (view.filters, view.notes) == (filters, [])
    assert View.parse(view.query(), vocabulary).filters == filters
    for nonsense in ("\0", "x" * 400, "10" * 20):
        assert (
            View.parse(urlencode({name: nonsense}), vocabulary)
            .notes[0]
            .endswith("That filter was left out.")
        )


def test_a_filter_is_described_alike_in_query_and_body(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    shape = document["components"]["schemas"]["Filters"]["properties"]
    assert list(shape) == list(Filters.model_fields)
    for path in ("suggestions", "counts"):
        listing = document["paths"][f"/api/v1/reviews/{{review_id}}/{path}"]["get"]
        described = {one["name"]: one.get("description") for one in listing["parameters"]}
        for name, field in shape.items():
            assert described[name] == field.get("description")
