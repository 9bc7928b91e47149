"""The review over REST: the pages' words, cursors, problem details, harmless repetitions."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import Review, User
from backend.review.queue import queue_pages
from tests.reviewing import a_ready_review


@pytest.fixture
def review(database: Database) -> Review:
    with database.transaction() as session:
        return a_ready_review(session)


@pytest.fixture
def base(review: Review) -> str:
    return f"/api/v1/reviews/{review.id}"


def page(client: TestClient, base: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{base}/suggestions", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def decide(
    client: TestClient, base: str, image_id: int, action: str, **more: Any
) -> dict[str, Any]:
    body = {"client_key": str(uuid4()), "image_id": image_id, "action": action} | more
    answer = client.post(f"{base}/decisions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_review_says_how_far_it_is(api_client: TestClient, base: str, review: Review) -> None:
    seen = api_client.get(base).json()
    assert (seen["id"], seen["state"], seen["suggestion_count"]) == (review.id, "ready", 42)
    assert seen["class_names"] == ["left", "middle", "right"]
    assert seen["progress"] | {"sentence": ""} == {
        "total": 42, "decided": 0, "undecided": 42, "remove": 0, "keep": 0, "relabel": 0,
        "unsure": 0, "mine": 0, "stop": False, "sentence": "",
        "waiting": None, "disagreement": None, "waiting_for_you": None,
    }  # fmt: skip


def test_following_next_meets_every_suggestion_once(api_client: TestClient, base: str) -> None:
    met, after = [], "0"
    while after is not None:
        found = page(api_client, base, limit=10, after=after)
        met += [item["position"] for item in found["items"]]
        after = found["next"]
    assert met == list(range(1, 43))


def test_following_previous_leads_back_to_the_start(api_client: TestClient, base: str) -> None:
    found = page(api_client, base, limit=10, after=32)
    met = [item["position"] for item in found["items"]]
    while found["previous"] is not None:
        found = page(api_client, base, limit=10, before=found["previous"])
        met = [item["position"] for item in found["items"]] + met
    assert met == list(range(1, 43))


def test_a_suggestion_speaks_plainly(api_client: TestClient, base: str) -> None:
    item = page(api_client, base, order="accuracy", limit=1)["items"][0]
    assert item["rank"] == item["accuracy_rank"] == 1
    assert item["accuracy_share"] == 1.0
    assert item["accuracy_words"] == "Hurts more than any other image."
    assert item["label_name"] in item["path"]
    assert item["thumbnail"].startswith("/images/")
    assert item["decision"] is None


def test_filters_are_those_of_the_address(api_client: TestClient, base: str) -> None:
    decide(
        api_client, base, page(api_client, base, label=1, limit=1)["items"][0]["image_id"], "remove"
    )
    found = page(api_client, base, label=1, decision="undecided")["items"]
    assert len(found) == 13
    assert {(item["label"], item["decision"]) for item in found} == {(1, None)}
    assert len(page(api_client, base, decision="remove")["items"]) == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"label": 7}, "no class number 7"),
        ({"decision": "perhaps"}, "no decision"),
        ({"order": "beauty"}, "order"),
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"after": -1}, "after"),
        ({"before": 0}, "before"),
    ],
)
def test_a_query_that_makes_no_sense_is_a_problem_with_a_sentence(
    api_client: TestClient, base: str, query: dict[str, Any], words: str
) -> None:
    answer = api_client.get(f"{base}/suggestions", params=query)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_an_order_that_there_is_not_is_told_once_with_those_that_there_are(
    api_client: TestClient, base: str
) -> None:
    problem = api_client.get(f"{base}/suggestions", params={"order": "zzz"}).json()
    assert problem["detail"].startswith(
        "order: must be 'queue', 'accuracy', 'label', 'sgd_influence',"
    )
    assert [one["field"] for one in problem["errors"]] == ["order"]


def test_a_decision_comes_back_as_it_stands_now(
    api_client: TestClient, base: str, owner: User
) -> None:
    item = page(api_client, base, limit=1)["items"][0]
    to = (item["label"] + 1) % 3
    outcome = decide(api_client, base, item["image_id"], "relabel", label=to)
    (now,) = outcome["items"]
    assert now["decision"] | {"at": None} == {
        "action": "relabel", "label": to, "label_name": ["left", "middle", "right"][to],
        "by": "olga", "by_id": owner.id, "at": None,
        "words": f"Now: {['left', 'middle', 'right'][to]}",
    }  # fmt: skip
    assert (
        outcome["count"],
        outcome["left"],
        outcome["last_change"],
        outcome["progress"]["relabel"],
    ) == (1, 0, 1, 1)


def test_repeating_a_decision_changes_nothing(api_client: TestClient, base: str) -> None:
    image_id = page(api_client, base, limit=1)["items"][0]["image_id"]
    first = decide(api_client, base, image_id, "remove", client_key="once")
    again = decide(api_client, base, image_id, "remove", client_key="once")
    assert first == again
    assert api_client.get(base).json()["last_change"] == 1


def test_the_rank_of_the_outcome_is_the_one_of_the_order_that_was_asked_for(
    api_client: TestClient, base: str
) -> None:
    item = page(api_client, base, order="label", limit=1)["items"][0]
    body = {"client_key": "k", "image_id": item["image_id"], "action": "keep"}
    outcome = api_client.post(f"{base}/decisions", params={"order": "label"}, json=body).json()
    assert outcome["items"][0]["rank"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"client_key": "k", "image_id": 1, "action": "explode"},
        {"client_key": "", "image_id": 1, "action": "keep"},
        {"client_key": "x" * 37, "image_id": 1, "action": "keep"},
        {"client_key": "k", "image_id": "first", "action": "keep"},
        {"client_key": "k", "image_id": 1, "action": "relabel"},
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(
    api_client: TestClient, base: str, body: dict[str, Any]
) -> None:
    answer = api_client.post(f"{base}/decisions", json=body)
    assert answer.status_code == 422
    assert api_client.get(base).json()["progress"]["decided"] == 0


def test_a_decision_on_an_image_of_another_data_set_is_not_found(
    api_client: TestClient, base: str, database: Database
) -> None:
    with database.transaction() as session:
        other = a_ready_review(session, name="Others")
    foreign = page(api_client, f"/api/v1/reviews/{other.id}", limit=1)["items"][0]["image_id"]
    answer = api_client.post(
        f"{base}/decisions", json={"client_key": "k", "image_id": foreign, "action": "remove"}
    )
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "There is no such image in this review.",
    )
    assert api_client.get(f"{base}/images", params={"image_id": foreign}).status_code == 404


def test_a_selection_is_decided_and_undone_as_one(api_client: TestClient, base: str) -> None:
    images = [item["image_id"] for item in page(api_client, base, limit=5)["items"]]
    outcome = api_client.post(
        f"{base}/decisions/bulk", json={"client_key": "b", "action": "remove", "image_ids": images}
    ).json()
    assert (outcome["count"], len(outcome["items"])) == (5, 5)
    outcome = api_client.post(f"{base}/undo", json={"client_key": "u"}).json()
    assert (outcome["count"], outcome["left"], {item["decision"] for item in outcome["items"]}) == (
        5,
        0,
        {None},
    )


def test_a_whole_view_is_counted_first_and_decided_as_counted(
    api_client: TestClient, base: str
) -> None:
    counted = api_client.get(f"{base}/counts", params={"label": 2}).json()
    assert counted == {
        "total": 14,
        "undecided": 14,
        "remove": 0,
        "keep": 0,
        "relabel": 0,
        "unsure": 0,
        "bulk": 14,
    }
    body = {
        "client_key": "b",
        "action": "keep",
        "filter": {"label": 2},
        "expected": counted["bulk"],
    }
    assert api_client.post(f"{base}/decisions/bulk", json=body).json()["count"] == 14
    assert api_client.get(f"{base}/counts", params={"label": 2}).json()["bulk"] == 0
    assert (
        api_client.get(f"{base}/counts", params={"label": 2, "decision": "keep"}).json()["bulk"]
        == 14
    )


def test_a_whole_view_that_changed_meanwhile_is_a_conflict(
    api_client: TestClient, base: str
) -> None:
    body = {"client_key": "b", "action": "keep", "filter": {}, "expected": 41}
    answer = api_client.post(f"{base}/decisions/bulk", json=body)
    assert answer.status_code == 409
    assert "now holds 42 images, not 41" in answer.json()["detail"]


@pytest.mark.parametrize("which", [{}, {"image_ids": [1], "filter": {}}])
def test_many_are_either_named_or_filtered(
    api_client: TestClient, base: str, which: dict[str, Any]
) -> None:
    answer = api_client.post(
        f"{base}/decisions/bulk", json={"client_key": "b", "action": "keep"} | which
    )
    assert (answer.status_code, "either which images" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        (
            "suggestions",
            {"lable": 3},
            "lable: there is no such parameter; there are order, after, before, limit, label, "
            "predicted, decision, by",
        ),
        (
            "counts",
            {"label": 1, "lable": 3},
            "lable: there is no such parameter; there are label, predicted, decision, by",
        ),
        ("dry-run", {"flor": 3}, "flor: there is no such parameter; there is floor."),
        (
            "parts",
            {"a": 1, "b": 2},
            "a: there is no such parameter; there are none here. b: there is no such parameter; "
            "there are none here.",
        ),
    ],
)
def test_a_misspelt_name_behind_the_question_mark_is_refused_and_the_right_ones_named(
    api_client: TestClient, base: str, path: str, query: dict[str, Any], words: str
) -> None:
    answer = api_client.get(f"{base}/{path}", params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith(words)


def test_a_misspelt_filter_in_the_address_of_an_act_decides_nothing(
    api_client: TestClient, base: str
) -> None:
    everything = {"client_key": "k", "action": "remove", "filter": {}, "expected": 42}
    assert api_client.post(f"{base}/decisions/bulk?lable=3", json=everything).status_code == 422
    assert api_client.get(base).json()["progress"]["decided"] == 0


def test_a_misspelt_filter_decides_nothing(api_client: TestClient, base: str) -> None:
    misspelt = {"client_key": "k", "action": "remove", "filter": {"labell": 2}}
    answer = api_client.post(f"{base}/decisions/bulk", json=misspelt)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "filter.labell: there is no such field here.",
    )
    assert api_client.get(base).json()["progress"]["decided"] == 0


@pytest.mark.parametrize("path", ["decisions", "decisions/bulk", "undo"])
def test_a_key_that_no_database_keeps_is_refused(
    api_client: TestClient, base: str, path: str
) -> None:
    answer = api_client.post(f"{base}/{path}", json={"client_key": "a\0b"})
    assert answer.status_code == 422
    assert {
        "field": "client_key",
        "message": "must not contain the character NUL",
    } in answer.json()["errors"]


def test_true_is_no_number_of_an_image(api_client: TestClient, base: str) -> None:
    answer = api_client.post(
        f"{base}/decisions/bulk", json={"client_key": "k", "action": "remove", "image_ids": [True]}
    )
    assert answer.json()["errors"] == [
        {"field": "image_ids", "message": "must not be true or false"}
    ]


def test_undo_without_anything_to_undo_says_so(api_client: TestClient, base: str) -> None:
    answer = api_client.post(f"{base}/undo", json={"client_key": "u"})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "There is nothing of yours to undo.",
    )


def test_two_people_read_each_others_decisions(
    api_client: TestClient, reviewer_client: TestClient, base: str, reviewer: User
) -> None:
    first, second = (item["image_id"] for item in page(api_client, base, limit=2)["items"])
    decide(api_client, base, first, "remove")
    seen = api_client.get(base).json()["last_change"]
    decide(reviewer_client, base, second, "keep")
    news = api_client.get(f"{base}/changes", params={"since": seen}).json()
    assert [(item["image_id"], item["decision"]["by"]) for item in news["items"]] == [
        (second, "rita")
    ]
    assert (
        news["reload"],
        news["last_change"],
        news["progress"]["decided"],
        news["progress"]["mine"],
    ) == (False, seen + 1, 2, 1)
    assert (
        api_client.get(f"{base}/changes", params={"since": news["last_change"]}).json()["items"]
        == []
    )


def test_too_many_changes_ask_for_a_reload(
    api_client: TestClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pages, "MOST_CHANGES", 5)
    api_client.post(
        f"{base}/decisions/bulk", json={"client_key": "b", "action": "keep", "filter": {}}
    )
    news = api_client.get(f"{base}/changes").json()
    assert (news["items"], news["reload"]) == ([], True)
    images = [item["image_id"] for item in page(api_client, base, limit=3)["items"]]
    answer = api_client.get(f"{base}/images", params={"image_id": images}).json()
    assert [(item["image_id"], item["decision"]["action"]) for item in answer["items"]] == [
        (image_id, "keep") for image_id in images
    ]


def test_confusion_names_every_pair_of_classes(api_client: TestClient, base: str) -> None:
    pairs = api_client.get(f"{base}/confusion").json()
    assert sum(pair["count"] for pair in pairs) == 42
    assert set(pairs[0]) == {"label", "predicted", "count", "decided"}


@pytest.mark.parametrize(
    "path", ["", "/suggestions", "/changes", "/confusion", "/counts", "/images?image_id=1"]
)
def test_a_review_that_does_not_exist_is_not_found(api_client: TestClient, path: str) -> None:
    answer = api_client.get(f"/api/v1/reviews/99{path}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such review.")


def test_a_page_of_another_site_decides_nothing(
    sign_in: Callable[[User], TestClient], owner: User, base: str
) -> None:
    client = sign_in(owner)
    image_id = page(client, base, limit=1)["items"][0]["image_id"]
    client.headers["Sec-Fetch-Site"] = "cross-site"
    answer = client.post(
        f"{base}/decisions", json={"client_key": "k", "image_id": image_id, "action": "keep"}
    )
    assert (answer.status_code, "a page of Winnow" in answer.json()["detail"]) == (403, True)
    assert client.get(base).json()["progress"]["decided"] == 0


def test_while_the_scoring_runs_there_is_nothing_to_decide(
    api_client: TestClient, base: str, review: Review, database: Database
) -> None:
    image_id = page(api_client, base, limit=1)["items"][0]["image_id"]
    with database.transaction() as session:
        session.get_one(Review, review.id).state = "queued"
    answer = api_client.post(
        f"{base}/decisions", json={"client_key": "k", "image_id": image_id, "action": "keep"}
    )
    assert (answer.status_code, "still being computed" in answer.json()["detail"]) == (409, True)
