"""The review as pages: sane addresses, and a plain form for every decision."""

import html
import itertools
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from backend.core.db import Database
from backend.core.models import Review, Run, Suggestion, User
from tests.reviewing import a_ready_review, decide, queue_of

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "🦊" * 3,
    "=1+1",
)


@pytest.fixture
def review(database: Database) -> Review:
    with database.transaction() as session:
        return a_ready_review(session)


@pytest.fixture
def here(review: Review) -> str:
    return f"/reviews/{review.id}"


@pytest.fixture
def large(database: Database) -> Review:
    """A review with more images than a page."""
    with database.transaction() as session:
        return a_ready_review(session, per_class=60)


def queue(database: Database, review: Review) -> list[Suggestion]:
    with database.transaction(write=False) as session:
        return list(queue_of(session, review))


def ranks(text: str) -> list[int]:
    """The ranks of the tiles on a page, in order."""
    return [int(rank) for rank in re.findall(r'<li class="tile"[^>]* data-rank="(\d+)"', text)]


def form_fields(text: str, form_id: str = "decide") -> dict[str, str]:
    """Return a form's hidden fields, as a browser sends them."""
    pattern = rf'<form [^>]*(?:id="{form_id}"|class="focus__decide")[^>]*>(.*?)</form>'
    (form,) = re.findall(pattern, text, re.DOTALL)
    return {
        name: html.unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    }


def decide_all(database: Database, user: User, review: Review, action: str = "keep") -> None:
    with database.transaction() as session:
        for row in queue_of(session, review):
            decide(session, user, review, row.image_id, action)


# ── the grid ──────────────────────────────────────────────────────────────────────────────────────


def test_the_grid_shows_the_queue_by_rank_with_label_and_prediction(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    text = client.get(here).text
    assert ranks(text) == list(range(1, 43))
    first = queue(database, review)[0]
    names = ("left", "middle", "right")
    assert (
        f'alt="Rank 1: labelled {names[first.label]}, the model sees {names[first.predicted]}"'
        in text
    )
    assert "Hurts accuracy" in text
    assert "After 20 more" in text


def test_where_nothing_hurts_no_bar_reason_or_tile_says_so(
    client: TestClient, here: str, database: Database
) -> None:
    with database.transaction() as session:
        session.execute(
            update(Suggestion).values(accuracy_value=0.5, label_value=0.5, brought_by="both")
        )
    focus, grid = client.get(f"{here}/focus?at=1").text, client.get(here).text
    assert re.findall(r'<meter [^>]*value="([^"]+)"', focus)[:2] == ["0.0", "0.0"]
    assert "Next in both rankings, though neither says anything against it." in focus
    assert "Suggested because" not in focus
    assert set(re.findall(r'<p class="tile__brought">([^<]*)</p>', grid)) == {"Next in order"}


def test_pages_hold_as_many_as_asked_and_lead_on(client: TestClient, large: Review) -> None:
    here = f"/reviews/{large.id}"
    first = client.get(here, params={"size": 25}).text
    assert ranks(first) == list(range(1, 26))
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = client.get(html.unescape(following)).text
    assert ranks(second) == list(range(26, 51))
    (previous,) = re.findall(r'rel="prev" href="([^"]+)"', second)
    assert ranks(client.get(html.unescape(previous)).text) == list(range(1, 26))
    last = client.get(here, params={"size": 25, "before": 2**31 - 1}).text
    assert ranks(last) == list(range(102, 127))
    assert 'rel="next"' not in last


def test_one_can_go_straight_to_a_rank(client: TestClient, large: Review) -> None:
    text = client.get(f"/reviews/{large.id}", params={"from": 100, "size": 25}).text
    assert ranks(text)[0] == 100
    assert ranks(client.get(f"/reviews/{large.id}", params={"from": 5000}).text)[-1] == 126


def test_the_grid_follows_the_order_and_the_filters(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    text = client.get(here, params={"order": "label", "label": 1}).text
    wanted = sorted(row.label_rank for row in queue(database, review) if row.label == 1)
    assert ranks(text) == wanted
    assert f"{len(wanted)} images in this view" in text
    assert '<option value="label" selected>' in text
    assert "order=label" in re.findall(r'class="tile__link" href="([^"]+)"', text)[0]


def test_a_view_without_images_says_what_to_do(client: TestClient, here: str) -> None:
    assert "No image fits these filters" in client.get(here, params={"decision": "remove"}).text


@pytest.mark.parametrize(
    "query",
    [
        {"label": "99"},
        {"label": "-1"},
        {"predicted": "cat"},
        {"predicted": "²"},
        {"decision": "perhaps"},
        {"decision": "<script>alert(1)</script>"},
    ],
)
def test_a_filter_that_makes_no_sense_is_left_out_and_named(
    client: TestClient, here: str, query: dict[str, str]
) -> None:
    answer = client.get(here, params=query)
    assert answer.status_code == 200
    assert ranks(answer.text) == list(range(1, 43))
    assert "That filter was left out." in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("page", ["", "/focus", "/confusion"])
def test_any_address_leads_to_a_sane_page(client: TestClient, here: str, page: str) -> None:
    names = (
        "order",
        "size",
        "after",
        "before",
        "from",
        "at",
        "label",
        "predicted",
        "decision",
        "unknown",
    )
    values = ("", "0", "1", "-1", "9" * 30, "1.5", "NaN", "'; --", "\x00", "queue")
    for query in itertools.product(names, values):
        answer = client.get(f"{here}{page}?{urlencode([query])}")
        assert (answer.status_code, "</html>" in answer.text) == (200, True), query


def test_a_page_past_the_end_is_the_last_page(client: TestClient, here: str) -> None:
    assert ranks(client.get(here, params={"after": 40}).text) == [41, 42]
    assert ranks(client.get(here, params={"after": 4000}).text) == list(range(1, 43))


def test_a_page_that_decisions_have_emptied_is_the_last_page_there_is(
    client: TestClient, here: str, review: Review, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        for row in queue_of(session, review)[30:]:
            decide(session, owner, review, row.image_id, "keep")
    text = client.get(here, params={"decision": "undecided", "after": 30}).text
    assert ranks(text) == list(range(1, 31))


def test_what_another_person_decided_carries_the_name(
    client: TestClient, here: str, review: Review, database: Database, owner: User, reviewer: User
) -> None:
    with database.transaction() as session:
        first, second = queue_of(session, review)[:2]
        decide(session, owner, review, first.image_id, "remove")
        decide(session, reviewer, review, second.image_id, "keep")
    text = client.get(here).text
    found = re.findall(r'class="tile__decision"[^>]*>([^<]*)</p>', text)
    assert found[:3] == ["Remove", "Keep · rita", ""]
    assert "Continue, one by one" in text


def test_hostile_names_are_text_everywhere(
    client: TestClient, database: Database, reviewer: User, owner: User
) -> None:
    with database.transaction() as session:
        review = a_ready_review(session, name=HOSTILE[0], class_names=HOSTILE, per_class=8)
        session.get_one(User, reviewer.id).name = HOSTILE[1]
        row = queue_of(session, review)[0]
        decide(session, reviewer, review, row.image_id, "relabel", (row.label + 1) % 5)
    for page in ("", "/focus", "/focus?at=1", "/confusion", "?label=0"):
        text = client.get(f"/reviews/{review.id}{page}").text
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text, page
        assert ">49<" not in text, page


def test_small_images_are_enlarged_without_blur_and_large_ones_are_not(
    client: TestClient, here: str, database: Database
) -> None:
    with database.transaction() as session:
        large = a_ready_review(session, name="Large", side=96)
    assert 'class="tiles tiles--small"' in client.get(here).text
    assert 'class="focus__image focus__image--small"' in client.get(f"{here}/focus").text
    assert "--small" not in client.get(f"/reviews/{large.id}").text
    assert "--small" not in client.get(f"/reviews/{large.id}/focus").text


# ── a single image ────────────────────────────────────────────────────────────────────────────────


def test_focus_begins_with_the_first_undecided_one(
    client: TestClient, here: str, review: Review, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        decide(session, owner, review, queue_of(session, review)[0].image_id, "keep")
    assert "<title>Rank 2 ·" in client.get(f"{here}/focus").text


def test_focus_shows_the_rank_that_was_asked_for_and_its_decision(
    client: TestClient, here: str, review: Review, database: Database, reviewer: User
) -> None:
    with database.transaction() as session:
        decide(session, reviewer, review, queue_of(session, review)[4].image_id, "unsure")
    text = client.get(f"{here}/focus", params={"at": 5}).text
    assert "<title>Rank 5 ·" in text
    assert ">Unsure · rita</p>" in text
    assert 'data-signal="accuracy"' in text
    assert 'data-signal="label"' in text
    assert "at=4" in re.findall(r'rel="prev" href="([^"]+)"', text)[0]
    assert "at=6" in re.findall(r'rel="next" href="([^"]+)"', text)[0]


def test_a_rank_that_does_not_exist_leads_to_the_next_one_with_a_word(
    client: TestClient, here: str
) -> None:
    text = client.get(f"{here}/focus", params={"at": 4000}).text
    assert "<title>Rank 1 ·" in text
    assert "There is no suggestion at that rank" in text


@pytest.mark.slow
def test_when_all_are_decided_the_next_step_is_shown(
    client: TestClient, here: str, review: Review, database: Database, owner: User
) -> None:
    decide_all(database, owner, review)
    text = client.get(f"{here}/focus").text
    assert "Every image is decided" in text
    assert f'action="{here}/undo"' in text
    assert f"{here}/clean" in text
    assert "one by one" not in client.get(here).text


def test_when_only_this_view_is_decided_the_others_are_offered(
    client: TestClient, here: str, review: Review, database: Database, owner: User
) -> None:
    with database.transaction() as session:
        for row in queue_of(session, review):
            if row.label == 0:
                decide(session, owner, review, row.image_id, "keep")
    text = client.get(f"{here}/focus", params={"label": 0}).text
    assert "Every image in this view is decided" in text
    assert "Continue with the others" in text


def test_while_the_scoring_runs_the_page_waits_with_its_job(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(Review, review.id).state = "queued"
    for page in ("", "/focus"):
        answer = client.get(here + page)
        assert (answer.status_code, "are being computed" in answer.text) == (200, True)
        assert f'<a href="/datasets/{review.data_set_id}">Blocks</a>' in answer.text


def test_a_review_that_does_not_exist_is_a_page_that_says_so(client: TestClient) -> None:
    for page in ("", "/focus", "/confusion"):
        answer = client.get(f"/reviews/99{page}")
        assert (answer.status_code, "There is no such review" in answer.text) == (404, True)


def test_confusion_links_each_pair_to_its_images(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    text = client.get(f"{here}/confusion").text
    label, predicted = map(int, re.findall(r"\?label=(\d)&amp;predicted=(\d)", text)[0])
    assert label != predicted
    wanted = [
        row.position
        for row in queue(database, review)
        if (row.label, row.predicted) == (label, predicted)
    ]
    assert ranks(client.get(here, params={"label": label, "predicted": predicted}).text) == wanted


# ── without JavaScript ────────────────────────────────────────────────────────────────────────────


def post(client: TestClient, path: str, fields: dict[str, Any]) -> str:
    """Send a form as a browser does without scripts. Returns the page that it leads to."""
    answer = client.post(path, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_forms_and_links_lead_to_this_review(client: TestClient, here: str) -> None:
    own = (
        rf"{here}(/(focus|confusion|clean|decide|undo|redo|standing|parts|second-opinion"
        r"|map))?(\?.*)?"
    )
    for page in ("", "/focus?at=2", "?label=1&decision=undecided&order=label"):
        text = client.get(here + page).text
        found = re.findall(r'(?:href|action|name="back" value)="(/reviews/[^"]+)"', text)
        assert f"{here}/decide" in found
        assert f"{here}/undo" in found
        assert [link for link in found if not re.fullmatch(own, html.unescape(link))] == []


def test_a_form_decides_on_one_image_and_shows_the_next_undecided_one(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    fields = form_fields(client.get(f"{here}/focus", params={"at": 3}).text)
    text = post(client, f"{here}/decide", fields | {"action": "remove"})
    assert "<title>Rank 4 ·" in text
    assert [row.decision for row in queue(database, review)[:4]] == [None, None, "remove", None]


def test_sending_a_form_twice_is_one_decision(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    fields = form_fields(client.get(f"{here}/focus").text)
    for _ in range(2):
        post(client, f"{here}/decide", fields | {"action": "keep"})
    assert client.get(f"/api/v1{here}").json()["last_change"] == 1


def test_a_form_relabels_by_number_or_by_name(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    for place, text in ((0, str), (1, lambda label: ("left", "middle", "right")[label])):
        to = (queue(database, review)[place].label + 1) % 3
        fields = form_fields(client.get(f"{here}/focus", params={"at": place + 1}).text)
        post(client, f"{here}/decide", fields | {"action": "relabel", "label": text(to)})
        assert queue(database, review)[place].decision_label == to


def test_relabelling_without_a_label_asks_for_one(client: TestClient, here: str) -> None:
    fields = form_fields(client.get(f"{here}/focus").text)
    for label in ("", "nothing", "7"):
        answer = client.post(f"{here}/decide", data=fields | {"action": "relabel", "label": label})
        assert (answer.status_code, "Choose the class" in answer.text) == (422, True)


def test_a_form_decides_on_the_ticked_images_and_stays_where_it_was(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    images = [row.image_id for row in queue(database, review)[:3]]
    fields = form_fields(client.get(here, params={"decision": "undecided"}).text)
    text = post(
        client,
        f"{here}/decide",
        fields | {"action": "unsure", "scope": "selection", "image_id": images},
    )
    assert ranks(text) == list(range(4, 43))
    assert '<option value="undecided" selected>' in text


def test_ticking_nothing_is_answered_in_words(client: TestClient, here: str) -> None:
    answer = client.post(
        f"{here}/decide",
        data=form_fields(client.get(here).text) | {"action": "keep", "scope": "selection"},
    )
    assert (answer.status_code, "Select at least one image" in answer.text) == (422, True)


def test_a_form_decides_on_the_whole_view_beyond_the_page(
    client: TestClient, large: Review, database: Database
) -> None:
    here = f"/reviews/{large.id}"
    fields = form_fields(client.get(here, params={"size": 25, "label": 2}).text)
    assert fields["expected"] == "42"
    post(client, f"{here}/decide", fields | {"action": "remove", "scope": "view"})
    assert {row.decision for row in queue(database, large) if row.label == 2} == {"remove"}
    assert {row.decision for row in queue(database, large) if row.label != 2} == {None}


@pytest.mark.slow
def test_a_whole_view_that_changed_meanwhile_is_not_decided(
    client: TestClient, reviewer_client: TestClient, here: str, review: Review, database: Database
) -> None:
    fields = form_fields(client.get(here).text)
    post(
        reviewer_client,
        f"{here}/decide",
        form_fields(reviewer_client.get(f"{here}/focus").text) | {"action": "keep"},
    )
    answer = client.post(f"{here}/decide", data=fields | {"action": "remove", "scope": "view"})
    assert (answer.status_code, "now holds 41 images, not 42" in answer.text) == (409, True)
    assert [row.decision for row in queue(database, review)[:2]] == ["keep", None]


@pytest.mark.slow
def test_a_form_undoes_and_shows_the_image_again(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    post(
        client,
        f"{here}/decide",
        form_fields(client.get(f"{here}/focus").text) | {"action": "remove"},
    )
    undo = re.findall(r'<form id="undo".*?</form>', client.get(f"{here}/focus").text, re.DOTALL)[0]
    fields = {
        name: html.unescape(value)
        for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', undo)
    }
    text = post(client, f"{here}/undo", fields)
    assert "<title>Rank 1 ·" in text
    assert queue(database, review)[0].decision is None


def test_undo_without_anything_to_undo_is_a_page_with_a_way_out(
    client: TestClient, here: str
) -> None:
    answer = client.post(f"{here}/undo")
    assert (answer.status_code, "nothing of yours to undo" in answer.text) == (404, True)


def test_a_form_cannot_lead_to_another_site(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    fields = form_fields(client.get(here).text)
    for back in (
        "https://elsewhere.example/?label=1",
        "//elsewhere.example",
        "javascript:alert(1)",
        "\x00",
    ):
        images = [row.image_id for row in queue(database, review)[:1]]
        answer = client.post(
            f"{here}/decide",
            data=fields
            | {"action": "keep", "image_id": images, "back": back, "client_key": f"k{len(back)}"},
            follow_redirects=False,
        )
        assert (answer.status_code, answer.headers["Location"].startswith(f"{here}")) == (303, True)


def test_a_form_of_another_site_decides_nothing(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    fields = form_fields(client.get(f"{here}/focus").text) | {"action": "remove"}
    client.headers["Sec-Fetch-Site"] = "cross-site"
    assert client.post(f"{here}/decide", data=fields).status_code == 403
    assert queue(database, review)[0].decision is None


def test_a_form_for_an_image_of_another_data_set_is_not_found(
    client: TestClient, here: str, large: Review, database: Database
) -> None:
    fields = form_fields(client.get(f"{here}/focus").text)
    foreign = queue(database, large)[0].image_id
    assert (
        client.post(
            f"{here}/decide", data=fields | {"action": "remove", "image_id": foreign}
        ).status_code
        == 404
    )


# ── what a reviewer must know first ───────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_model_that_has_not_learned_warns_on_every_page_of_its_review(
    client: TestClient, here: str, review: Review, database: Database
) -> None:
    doubt = "The model has not learned <more> than the largest class."
    shown = html.escape(doubt)
    assert shown not in client.get(here).text
    with database.transaction() as session:
        run = session.get_one(Run, review.run_id)
        run.report = {**run.report, "doubt": doubt}
    for address in (here, f"{here}/focus"):
        assert shown in client.get(address).text
    assert client.get(f"/api/v1{here}").json()["doubts"] == [doubt]
    start = re.search(r'<a class="([^"]*)"[^>]*data-part="start"', client.get(here).text)
    assert start
    assert "button--primary" not in start[1]
    shown_run = client.get(f"/runs/{review.run_id}").text
    assert re.search(r'button--primary"\s+href="/datasets/\d+/runs/new">Train again', shown_run)


def test_reviews_from_before_the_marks_have_none(client: TestClient, here: str) -> None:
    assert "judged" not in client.get(here).text
    first = client.get(f"/api/v1{here}/suggestions").json()["items"][0]
    assert (first["accuracy_unjudged"], first["label_unjudged"]) == (None, None)
