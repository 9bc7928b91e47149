"""Runs as pages: the form, the live chart, the way to the review."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.core.catalogue import METHODS
from backend.core.db import Database
from backend.core.models import Cleansing, DataSet, Job, Review, Run, Scoring
from backend.core.settings import Settings
from backend.core.storage import Storage
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.world import an_epoch


@pytest.fixture
def blocks(database: Database, storage: Storage) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session, storage, per_class=8, name="Blocks & <b>bricks</b>")


def a_training(database: Database, data_set: DataSet, state: str, epochs: int = 2) -> Run:
    """A run whose job is in that state, with epochs."""
    with database.transaction() as session:
        run = a_run(
            session,
            data_set,
            state="done" if state == "done" else "queued",
            network="mnist",
            mean=[0.5],
        )
        run.job_id = a_job(session, subject_id=run.id, data_set_id=data_set.id, state=state).id
        if state == "failed":
            session.get_one(
                Job, run.job_id
            ).error = "The loss is not a number any more in epoch 2. Try a lower learning rate."
        for epoch in range(1, epochs + 1):
            an_epoch(session, run, epoch)
        return run


# ── the form ──────────────────────────────────────────────────────────────────────────────────────


def test_the_form_works_with_one_button(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    text = client.get(f"/datasets/{blocks.id}/runs/new").text
    assert "Start training" in text
    assert "Blocks &amp; &lt;b&gt;bricks&lt;/b&gt;" in text
    answer = client.post(
        f"/datasets/{blocks.id}/runs",
        data={"network": "", "epochs": "", "seed": "0"},
        follow_redirects=False,
    )
    with database.transaction(write=False) as session:
        run = session.scalars(select(Run)).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.id}")
    assert run.recipe == {}


def test_what_was_filled_in_is_used(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    filled = {
        "network": "cifar",
        "epochs": "4",
        "learning_rate": "0.1",
        "momentum": "0",
        "schedule": "cosine",
        "seed": "3",
    }
    client.post(f"/datasets/{blocks.id}/runs", data=filled)
    with database.transaction(write=False) as session:
        run = session.scalars(select(Run)).one()
    assert run.recipe == {
        "network": "cifar",
        "epochs": 4,
        "learning_rate": 0.1,
        "momentum": 0.0,
        "schedule": "cosine",
    }
    assert run.seed == 3


def test_weights_in_their_folder_can_be_started_from(
    client: TestClient, database: Database, blocks: DataSet, storage: Storage
) -> None:
    form = f"/datasets/{blocks.id}/runs/new"
    assert 'name="weights"' not in client.get(form).text
    assert "starts from random weights" in client.get(form).text
    storage.weights.mkdir(parents=True)
    (storage.weights / f"{'ab' * 32}.safetensors").write_bytes(b"x" * 1_500)
    assert f'<option value="{"ab" * 32}">abababababab… (1.5 kB)</option>' in client.get(form).text
    filled = {
        "network": "resnet18",
        "weights": "ab" * 32,
        "trained": "head",
        "optimizer": "adamw",
        "precision": "bfloat16",
    }
    client.post(f"/datasets/{blocks.id}/runs", data=filled)
    with database.transaction(write=False) as session:
        assert session.scalars(select(Run)).one().recipe == filled


def test_a_network_that_the_administrator_allowed_is_on_the_form(
    client: TestClient, blocks: DataSet, settings: Settings
) -> None:
    settings.networks = "parts.nets:small"
    assert '<option value="parts.nets:small">' in client.get(f"/datasets/{blocks.id}/runs/new").text


def test_what_makes_no_sense_comes_back_with_what_to_mend_beside_each_field(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    filled = {"epochs": "many", "learning_rate": '"><script>', "seed": "0", "momentum": "0.5"}
    answer = client.post(f"/datasets/{blocks.id}/runs", data=filled)
    assert answer.status_code == 422
    assert '<p class="field__error" id="field-epochs-note">Must be a whole number' in answer.text
    assert '<p class="field__error" id="field-learning_rate-note">Must be a number' in answer.text
    assert 'value="many"' in answer.text
    assert 'value="0.5"' in answer.text
    assert 'value="&#34;&gt;&lt;script&gt;"' in answer.text
    assert '<details class="details" open>' in answer.text
    with database.transaction(write=False) as session:
        assert session.scalars(select(Run)).all() == []


def test_a_field_that_there_is_not_is_refused_in_words(client: TestClient, blocks: DataSet) -> None:
    answer = client.post(f"/datasets/{blocks.id}/runs", data={"epoch": "3"})
    assert (answer.status_code, "epoch: there is no such field here" in answer.text) == (422, True)


def test_a_data_set_that_is_not_imported_has_no_form_to_train_on(
    client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        data_set = DataSet(name="soon")
        session.add(data_set)
        session.flush()
    for answer in (
        client.get(f"/datasets/{data_set.id}/runs/new"),
        client.post(f"/datasets/{data_set.id}/runs", data={}),
    ):
        assert (answer.status_code, "Wait until the import is done" in answer.text) == (409, True)


# ── the run ───────────────────────────────────────────────────────────────────────────────────────


def test_a_training_under_way_shows_progress_and_a_chart_that_asks_for_more(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "running")
    text = client.get(f"/runs/{run.id}").text
    assert f'hx-get="/jobs/{run.job_id}/progress"' in text
    assert 'data-active="true"' in text
    assert "Find harmful images" not in text
    news = client.get(f"/runs/{run.id}/epochs").json()
    assert news["active"] is True
    assert [epoch["epoch"] for epoch in news["epochs"]] == [1, 2]


def test_before_the_first_epoch_ends_a_sentence_says_when_the_curves_begin(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    text = client.get(f"/runs/{a_training(database, blocks, 'running', epochs=0).id}").text
    assert "The curves start after the first epoch." in text
    assert (
        "After epoch 2."
        in client.get(f"/runs/{a_training(database, blocks, 'running', epochs=2).id}").text
    )


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_the_chart_stops_asking_when_the_job_has_ended(
    client: TestClient, database: Database, blocks: DataSet, state: str
) -> None:
    run = a_training(database, blocks, state)
    assert client.get(f"/runs/{run.id}/epochs").json()["active"] is False
    assert 'data-active="false"' in client.get(f"/runs/{run.id}").text


def test_a_training_that_failed_says_why_and_can_be_tried_again(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "failed")
    text = client.get(f"/runs/{run.id}").text
    assert "The loss is not a number any more in epoch 2. Try a lower learning rate." in text
    assert f'action="/jobs/{run.job_id}/retry"' in text


def test_a_finished_training_leads_to_finding_harmful_images(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    text = client.get(f"/runs/{run.id}").text
    assert (
        "The model names <b>50.0\N{NO-BREAK SPACE}%</b> of the validation images correctly." in text
    )
    assert "Replay data: 1.0 kB." in text
    assert '<button class="button button--primary">Find harmful images' in text
    answer = client.post(
        f"/runs/{run.id}/reviews",
        data={"method": "final_params", "span": "last_epoch"},
        follow_redirects=False,
    )
    with database.transaction(write=False) as session:
        review = session.scalars(select(Review)).one()
        assert session.get_one(Scoring, review.accuracy_scoring_id).method == "final_params"
    assert (answer.status_code, answer.headers["location"]) == (303, f"/reviews/{review.id}")


def test_a_model_that_only_guesses_is_called_so(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    with database.transaction() as session:
        stored = session.get_one(Run, run.id)
        stored.report = {**stored.report, "doubt": "The model has not learned."}
    assert (
        '<div class="notice notice--warn"><p>The model has not learned.</p></div>'
        in client.get(f"/runs/{run.id}").text
    )


def test_the_button_alone_takes_the_defaults(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    assert (
        client.post(f"/runs/{run.id}/reviews", data={}, follow_redirects=False).status_code == 303
    )
    assert (
        client.post(
            f"/runs/{run.id}/reviews", data={"method": "", "span": ""}, follow_redirects=False
        ).status_code
        == 303
    )


@pytest.mark.parametrize("fields", [{"method": "magic"}, {"span": "first"}, {"colour": "red"}])
def test_a_scoring_that_makes_no_sense_is_refused_in_words(
    client: TestClient, database: Database, blocks: DataSet, fields: dict[str, str]
) -> None:
    run = a_training(database, blocks, "done")
    (name,) = fields
    answer = client.post(f"/runs/{run.id}/reviews", data=fields)
    assert (answer.status_code, f"{name}: " in answer.text) == (422, True)


def test_a_scored_training_leads_to_its_review_and_its_tables(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    with database.transaction() as session:
        review = a_review(session, run)
        session.get_one(Scoring, review.accuracy_scoring_id).report = {
            "seconds": 0.4,
            "top_group": 3,
            "predicted_change": -0.5,
            "measured_change": -0.4,
            "trust": [
                "Without the first 3 images …: the prediction holds.",
                "A <b>second</b> sentence.",
            ],
            "adjoint_growth": 1.2345,
            "warns": False,
        }
    text = client.get(f"/runs/{run.id}").text
    assert f'<a class="button button--primary" href="/reviews/{review.id}">Review them</a>' in text
    assert "<p>Without the first 3 images …: the prediction holds.</p>" in text
    assert "<p>A &lt;b&gt;second&lt;/b&gt; sentence.</p>" in text
    assert "the estimate grew 1.234 times as large" in text
    assert "Exact: the training was replayed bit for bit." in text
    assert "notice--warn" not in text
    for kind in ("csv", "parquet"):
        assert f'href="/runs/{run.id}/scores.{kind}"' in text
        assert client.get(f"/runs/{run.id}/scores.{kind}").status_code == 200


def test_a_ranking_that_means_little_says_so(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    with database.transaction() as session:
        review = a_review(session, run)
        session.get_one(Scoring, review.accuracy_scoring_id).report = {
            "seconds": 0.4,
            "trust": ["The estimate grew 12,346-fold."],
            "warns": True,
        }
    warning = '<div class="notice notice--warn"><p>The estimate grew 12,346-fold.'
    assert warning in client.get(f"/runs/{run.id}").text
    assert warning in client.get(f"/reviews/{review.id}").text


def test_each_method_says_what_it_means_and_what_it_will_take(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    text = client.get(f"/runs/{run.id}").text
    for name, method in METHODS.items():
        assert f'name="method" value="{name}"' in text
        assert method.meaning.replace("'", "&#39;") in text
    assert text.count("Its cost is not known.") == len(METHODS)
    cost = {
        "passes": 12.0,
        "seconds": 12.3,
        "memory_bytes": 3_000_000,
        "stored_bytes": 5_000_000,
        "damping_seconds": 90.0,
    }
    whole = cost | {"seconds": 240.0}
    with database.transaction() as session:
        priced = session.get_one(Run, run.id)
        priced.report = priced.report | {
            "costs": {name: {"last_epoch": cost, "all_epochs": whole} for name in METHODS}
        }
    text = " ".join(client.get(f"/runs/{run.id}").text.split())
    assert "This takes about 12 s and stores nothing more." in text
    assert (
        "about 12 s for the last epoch, about 4 min 0 s for all, 3.0 MB of memory, 5.0 MB kept "
        "from the training" in text
    )
    assert text.count("with damping measured about 1 min 30 s") == 3
    assert "not known" not in text


def test_a_ranking_that_does_not_speak_of_harm_does_not_claim_it(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    with database.transaction() as session:
        review = a_review(session, run)
        review.method = "outlier"
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        scoring.method = "outlier"
    for address in (f"/reviews/{review.id}", f"/reviews/{review.id}/focus"):
        text = client.get(address).text
        assert "Unlike the others" in text, address
        assert "urts accuracy" not in text, address
        assert "hurts more" not in text, address
    assert "This says nothing about harm" in client.get(f"/runs/{run.id}").text


def test_a_review_by_margin_alone_shows_one_signal(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    with database.transaction() as session:
        review = a_review(session, run)
        review.method, review.accuracy_scoring_id = "margin", review.label_scoring_id
    text = client.get(f"/reviews/{review.id}/focus").text
    assert text.count('data-signal="') == 1
    assert "Both, in turn" not in client.get(f"/reviews/{review.id}").text
    assert client.get(f"/runs/{run.id}/scores.csv").text.count("margin,") > 1


def test_a_training_of_a_verdict_leads_to_the_verdict(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done", epochs=0)
    with database.transaction() as session:
        review = a_review(session, a_run(session, blocks))
        shared = {"data_set_id": blocks.id, "review_id": review.id, "run_id": run.id}
        cleansing = Cleansing(**shared, parent_version_id=run.version_id, version_id=run.version_id)
        session.add(cleansing)
        session.flush()
        session.get_one(Run, run.id).cleansing_id = cleansing.id
    text = client.get(f"/runs/{run.id}").text
    assert f'href="/cleansings/{cleansing.id}">See the verdict</a>' in text
    assert "Find harmful images" not in text


def test_a_reviewer_sees_the_training_and_starts_nothing(
    reviewer_client: TestClient, database: Database, blocks: DataSet
) -> None:
    run = a_training(database, blocks, "done")
    text = reviewer_client.get(f"/runs/{run.id}").text
    assert "Learning curve" in text
    assert 'method="post"' not in text
