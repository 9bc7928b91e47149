"""Runs and scorings over the API: starting, reports, scores as tables."""

import csv
import io
from datetime import UTC, datetime

import pyarrow.parquet
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update

from backend.core.catalogue import AUGMENTATIONS, METHODS, NETWORKS, SCHEDULES, SPANS
from backend.core.db import Database
from backend.core.models import (
    Cleansing,
    DataSet,
    Job,
    Review,
    Run,
    Score,
    Scoring,
    Suggestion,
    Version,
)
from backend.runs import service
from backend.runs.schemas import RunOptions, ScoringOptions
from tests.factories import a_data_set, a_job, a_review, a_run
from tests.world import an_epoch


@pytest.fixture
def blocks(database: Database) -> DataSet:
    with database.transaction() as session:
        return a_data_set(session, class_names=("left", "=1+1", "<b>right</b>"))


@pytest.fixture
def run(database: Database, blocks: DataSet) -> Run:
    """A finished training."""
    with database.transaction() as session:
        made = a_run(session, blocks, network="mnist")
        an_epoch(session, made, 1)
        return made


# ── training ──────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_queued_on_the_current_version_with_what_was_asked_for(
    client: TestClient, blocks: DataSet
) -> None:
    answer = client.post(
        f"/api/v1/data-sets/{blocks.id}/runs", json={"epochs": 3, "learning_rate": 0.1, "seed": 7}
    )
    assert answer.status_code == 202
    made = answer.json()
    assert (made["state"], made["seed"], made["recipe"]) == (
        "queued",
        7,
        {"epochs": 3, "learning_rate": 0.1},
    )
    assert made["version_id"] == blocks.current_version_id
    assert (made["job"]["kind"], made["job"]["state"], made["job"]["subject_id"]) == (
        "train",
        "queued",
        made["id"],
    )
    assert made["job"]["title"] == "Train on Blocks, version 1"
    assert client.get(f"/api/v1/runs/{made['id']}").json() == made


def test_nothing_need_be_chosen(client: TestClient, blocks: DataSet) -> None:
    made = client.post(f"/api/v1/data-sets/{blocks.id}/runs", json={}).json()
    assert (made["seed"], made["recipe"]) == (0, {})
    assert (
        client.post(
            f"/api/v1/data-sets/{blocks.id}/runs", json={"seed": None, "epochs": None}
        ).status_code
        == 202
    )


NONSENSE: tuple[dict[str, object], ...] = (
    {"epochs": 0},
    {"epochs": 1001},
    {"batch_size": 0},
    {"learning_rate": 0},
    {"learning_rate": 101},
    {"learning_rate": "NaN"},
    {"learning_rate": "inf"},
    {"momentum": 1},
    {"weight_decay": -0.1},
    {"seed": -1},
    {"seed": 2**31},
    {"network": "transformer"},
    {"schedule": "linear"},
    {"augmentation": "rotate"},
    {"epoch": 3},
)


def test_what_makes_no_sense_is_refused_by_name(client: TestClient, blocks: DataSet) -> None:
    for options in NONSENSE:
        answer = client.post(f"/api/v1/data-sets/{blocks.id}/runs", json=options)
        assert answer.status_code == 422, options
        assert [error["field"] for error in answer.json()["errors"]] == list(options)


def test_a_data_set_that_is_not_imported_cannot_be_trained_on(
    client: TestClient, database: Database
) -> None:
    with database.transaction() as session:
        data_set = DataSet(name="soon", state="importing")
        session.add(data_set)
        session.flush()
    answer = client.post(f"/api/v1/data-sets/{data_set.id}/runs", json={})
    assert (answer.status_code, "Wait until the import is done" in answer.json()["detail"]) == (
        409,
        True,
    )


def test_another_version_can_be_chosen_but_not_another_data_sets(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        other = a_data_set(session, name="Other", per_class=2)
        cleaned = Version(
            data_set_id=blocks.id, number=2, parent_id=blocks.current_version_id, state="proposed"
        )
        session.add(cleaned)
        session.flush()
    address = f"/api/v1/data-sets/{blocks.id}/runs"
    assert client.post(address, json={"version_id": cleaned.id}).json()["version_id"] == cleaned.id
    for version_id in (other.current_version_id, 4711, 0):
        answer = client.post(address, json={"version_id": version_id})
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "This data set has no such version.",
        )


def test_a_run_reports_its_epochs(client: TestClient, database: Database, run: Run) -> None:
    with database.transaction() as session:
        an_epoch(session, run, 3)
        an_epoch(session, run, 2, None)
    found = client.get(f"/api/v1/runs/{run.id}").json()
    assert [(epoch["epoch"], epoch["validation_loss"]) for epoch in found["epochs"]] == [
        (1, 0.5),
        (2, None),
        (3, 0.5),
    ]
    assert (found["state"], found["report"]["stored_bytes"], found["job"]) == ("done", 1000, None)


def test_the_list_has_a_data_sets_own_runs_with_their_jobs_and_not_those_of_its_cleansings(
    client: TestClient, database: Database, blocks: DataSet, run: Run
) -> None:
    with database.transaction() as session:
        other = a_data_set(session, name="Other", per_class=2)
        a_run(session, other)
        newer = a_run(session, blocks, state="queued")
        newer.job_id = a_job(session, subject_id=newer.id, data_set_id=blocks.id).id
    items = client.get(f"/api/v1/data-sets/{blocks.id}/runs").json()["items"]
    assert [(one["id"], one["job"] and one["job"]["id"]) for one in items] == [
        (newer.id, newer.job_id),
        (run.id, None),
    ]
    assert "epochs" not in items[0]


# ── scoring ───────────────────────────────────────────────────────────────────────────────────────


def test_a_scoring_is_queued_with_the_review_that_it_fills(client: TestClient, run: Run) -> None:
    answer = client.post(
        f"/api/v1/runs/{run.id}/reviews",
        json={"method": "marginal_influence", "span": "all_epochs"},
    )
    assert answer.status_code == 202
    made = answer.json()
    assert (made["run_id"], made["data_set_id"], made["state"]) == (
        run.id,
        run.data_set_id,
        "queued",
    )
    assert [(one["method"], one["options"], one["state"]) for one in made["scorings"]] == [
        ("marginal_influence", {"span": "all_epochs"}, "queued"),
        ("margin", {}, "queued"),
    ]
    assert (made["job"]["kind"], made["job"]["subject_id"], made["job"]["title"]) == (
        "score",
        made["id"],
        "Find harmful images in Blocks",
    )
    assert client.get(f"/api/v1/runs/{run.id}/reviews").json() == {"items": [made], "next": None}


def test_a_scorings_job_is_the_job_of_both_rankings(
    client: TestClient, database: Database, run: Run
) -> None:
    made = client.post(f"/api/v1/runs/{run.id}/reviews", json={}).json()
    with database.transaction(write=False) as session:
        job = session.get_one(Job, made["job"]["id"])
        assert {one.job_id for one in session.scalars(select(Scoring))} == {job.id}


def test_a_scoring_that_makes_no_sense_is_refused(client: TestClient, run: Run) -> None:
    for options in (
        {"method": "magic"},
        {"damping": "much"},
        {"method": "tracin", "damping": "auto"},
        {"span": "first_epoch"},
        {"sapn": "last_epoch"},
    ):
        assert client.post(f"/api/v1/runs/{run.id}/reviews", json=options).status_code == 422, (
            options
        )


@pytest.mark.slow
def test_every_method_can_be_asked_for_and_notes_what_it_depends_on(
    client: TestClient, run: Run
) -> None:
    for name, method in METHODS.items():
        made = client.post(
            f"/api/v1/runs/{run.id}/reviews", json={"method": name, "span": "all_epochs"}
        ).json()
        first = made["scorings"][0]
        assert (made["method"], first["method"]) == (name, name)
        assert first["options"] == ({"span": "all_epochs"} if method.spans else {})
        assert client.get(f"/api/v1/reviews/{made['id']}").json()["method"] == name


def test_by_margin_alone_there_is_one_ranking(
    client: TestClient, database: Database, run: Run
) -> None:
    made = client.post(f"/api/v1/runs/{run.id}/reviews", json={"method": "margin"}).json()
    assert [one["method"] for one in made["scorings"]] == ["margin"]
    with database.transaction(write=False) as session:
        review = session.get_one(Review, made["id"])
        assert review.accuracy_scoring_id == review.label_scoring_id == made["scorings"][0]["id"]


def test_a_damping_is_noted_and_refused_where_the_method_knows_none(
    client: TestClient, run: Run
) -> None:
    made = client.post(f"/api/v1/runs/{run.id}/reviews", json={"damping": "auto"}).json()
    assert made["scorings"][0]["options"] == {"span": "last_epoch", "damping": "auto"}
    refusal = client.post(
        f"/api/v1/runs/{run.id}/reviews", json={"method": "outlier", "damping": "auto"}
    ).json()
    assert (
        "The method outlier knows no damping. Leave it at none, or choose sgd_influence"
        in refusal["detail"]
    )


def test_an_average_queues_what_is_missing_and_scores_what_is_there(
    client: TestClient, database: Database, run: Run
) -> None:
    made = client.post(
        f"/api/v1/runs/{run.id}/reviews", json={"method": "tracin", "runs": 3}
    ).json()
    assert (made["state"], made["job"], made["scorings"][0]["options"]) == (
        "queued",
        None,
        {"span": "last_epoch", "runs": 3},
    )
    assert [(one["seed"], one["state"], one["job"]["kind"]) for one in made["members"]] == [
        (run.seed, "queued", "member"),
        (run.seed + 1, "queued", "train"),
        (run.seed + 2, "queued", "train"),
    ]
    assert client.get(f"/api/v1/reviews/{made['id']}").json()["members"] == made["members"]
    repeat = client.get(f"/api/v1/runs/{made['members'][1]['run_id']}").json()
    assert (repeat["repeats_run_id"], repeat["recipe"]) == (
        run.id,
        {"network": "mnist", "seed": run.seed + 1},
    )
    # They are the average's own: the data set's list does not show them.
    assert [
        one["id"] for one in client.get(f"/api/v1/data-sets/{run.data_set_id}/runs").json()["items"]
    ] == [run.id]


def test_a_second_average_takes_the_trainings_that_there_are_and_tries_failed_ones_again(
    client: TestClient, database: Database, run: Run
) -> None:
    first = client.post(f"/api/v1/runs/{run.id}/reviews", json={"runs": 3}).json()["members"]
    with database.transaction() as session:
        session.execute(update(Run).where(Run.id == first[1]["run_id"]).values(state="done"))
        session.execute(update(Job).where(Job.id == first[1]["job"]["id"]).values(state="done"))
        session.execute(
            update(Job).where(Job.id == first[2]["job"]["id"]).values(state="failed", error="x")
        )
    second = client.post(
        f"/api/v1/runs/{run.id}/reviews", json={"method": "outlier", "runs": 4}
    ).json()["members"]
    assert [one["run_id"] for one in second[:3]] == [one["run_id"] for one in first]
    assert [(one["job"]["kind"], one["job"]["state"]) for one in second] == [
        ("member", "queued"),
        ("member", "queued"),
        ("train", "queued"),
        ("train", "queued"),
    ]
    assert second[2]["job"]["id"] == first[2]["job"]["id"]
    assert second[3]["seed"] == run.seed + 3


@pytest.mark.parametrize("runs", [0, 6, "many"])
def test_an_average_takes_a_few_runs_only(client: TestClient, run: Run, runs: object) -> None:
    assert client.post(f"/api/v1/runs/{run.id}/reviews", json={"runs": runs}).status_code == 422


def test_methods_say_what_they_mean_and_what_they_cost_as_the_worker_worked_it_out(
    client: TestClient, database: Database, run: Run
) -> None:
    unknown = client.get(f"/api/v1/runs/{run.id}/methods").json()
    assert [one["name"] for one in unknown] == list(METHODS)
    assert {one["costs"] for one in unknown} == {None}
    cost = {
        "passes": 12.0,
        "seconds": 4.0,
        "memory_bytes": 3_000_000,
        "stored_bytes": 0,
        "damping_seconds": None,
    }
    with database.transaction() as session:
        priced = session.get_one(Run, run.id)
        priced.report = priced.report | {
            "costs": {"tracin": {"last_epoch": cost, "all_epochs": cost | {"seconds": 40.0}}}
        }
    found = {one["name"]: one for one in client.get(f"/api/v1/runs/{run.id}/methods").json()}
    assert found["tracin"]["costs"]["last_epoch"] == cost
    assert found["tracin"]["costs"]["all_epochs"]["seconds"] == 40.0
    assert (found["tracin"]["harm"], found["outlier"]["harm"]) == (True, False)
    assert found["outlier"]["meaning"] == METHODS["outlier"].meaning


def test_a_run_that_is_not_finished_is_not_scored(
    client: TestClient, database: Database, blocks: DataSet
) -> None:
    with database.transaction() as session:
        waiting = a_run(session, blocks, state="queued")
    answer = client.post(f"/api/v1/runs/{waiting.id}/reviews", json={})
    assert (answer.status_code, "not finished" in answer.json()["detail"]) == (409, True)
    assert client.get(f"/api/v1/runs/{waiting.id}/reviews").json()["items"] == []


def test_a_training_of_a_verdict_is_not_scored(
    client: TestClient, database: Database, run: Run
) -> None:
    with database.transaction() as session:
        review = a_review(session, run)
        shared = {"data_set_id": run.data_set_id, "review_id": review.id, "run_id": run.id}
        cleansing = Cleansing(**shared, parent_version_id=run.version_id, version_id=run.version_id)
        session.add(cleansing)
        session.flush()
        session.execute(update(Run).where(Run.id == run.id).values(cleansing_id=cleansing.id))
    assert client.post(f"/api/v1/runs/{run.id}/reviews", json={}).status_code == 409


# ── scores ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def review(database: Database, run: Run) -> Review:
    with database.transaction() as session:
        made = a_review(session, run)
        first = session.scalars(
            select(Suggestion).where(Suggestion.review_id == made.id, Suggestion.position == 1)
        ).one()
        first.decision, first.decided_at = "remove", datetime.now(UTC)
        return made


def test_scores_come_as_a_table_in_the_order_of_the_queue(
    client: TestClient, run: Run, review: Review
) -> None:
    answer = client.get(f"/api/v1/runs/{run.id}/scores.csv")
    assert (
        answer.headers["content-disposition"] == f'attachment; filename="run-{run.id}-scores.csv"'
    )
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert header == list(service.DOWNLOAD_COLUMNS)
    assert [int(row[5]) for row in rows] == list(range(1, review.suggestion_count + 1))
    decisions = [row[header.index("decision")] for row in rows]
    assert decisions == ["remove"] + [""] * (len(rows) - 1)
    assert {row[2] for row in rows} == {"left", "=1+1", "<b>right</b>"}


def test_scores_come_as_parquet_with_their_types(
    client: TestClient, run: Run, review: Review, database: Database
) -> None:
    answer = client.get(f"/api/v1/runs/{run.id}/scores.parquet")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert {field.name: str(field.type) for field in table.schema} == service.DOWNLOAD_COLUMNS
    found = {row["image_id"]: row for row in table.to_pylist()}
    with database.transaction(write=False) as session:
        scores = session.execute(
            select(Score.image_id, Score.value, Score.rank).where(
                Score.scoring_id == review.accuracy_scoring_id
            )
        ).all()
    assert {(image_id, value, rank) for image_id, value, rank in scores} == {
        (image_id, row["score"], row["score_rank"]) for image_id, row in found.items()
    }
    assert "=1+1" in {
        row["given_class"] for row in found.values()
    }  # no spreadsheet reads it: nothing is escaped


def test_both_tables_hold_the_same_also_where_they_are_read_in_many_pieces(
    client: TestClient, run: Run, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.get(f"/api/v1/runs/{run.id}/scores.csv").text
    monkeypatch.setattr("backend.runs.api.CHUNK", 5)
    assert client.get(f"/api/v1/runs/{run.id}/scores.csv").text == whole
    table = pyarrow.parquet.read_table(
        io.BytesIO(client.get(f"/api/v1/runs/{run.id}/scores.parquet").content)
    )
    assert table.num_rows == len(whole.splitlines()) - 1


def test_a_review_without_suggestions_gives_empty_tables_that_keep_their_columns(
    client: TestClient, run: Run, review: Review, database: Database
) -> None:
    with database.transaction() as session:
        session.execute(delete(Suggestion))
    assert client.get(f"/api/v1/runs/{run.id}/scores.csv").text.splitlines() == [
        ",".join(service.DOWNLOAD_COLUMNS)
    ]
    table = pyarrow.parquet.read_table(
        io.BytesIO(client.get(f"/api/v1/runs/{run.id}/scores.parquet").content)
    )
    assert (table.num_rows, table.column_names) == (0, list(service.DOWNLOAD_COLUMNS))


def test_the_newest_scoring_that_is_ready_counts(
    client: TestClient, run: Run, review: Review, database: Database
) -> None:
    with database.transaction() as session:
        newer = a_review(session, run, seed=1)
        session.add(
            Review(
                data_set_id=run.data_set_id,
                version_id=run.version_id,
                run_id=run.id,
                state="queued",
            )
        )
        newest = session.scalars(
            select(Suggestion.image_id)
            .where(Suggestion.review_id == newer.id)
            .order_by(Suggestion.position)
        ).first()
    _, first, *_ = csv.reader(io.StringIO(client.get(f"/api/v1/runs/{run.id}/scores.csv").text))
    assert first[0] == str(newest)


def test_a_run_without_scores_says_what_to_do(client: TestClient, run: Run) -> None:
    for kind in ("csv", "parquet"):
        answer = client.get(f"/api/v1/runs/{run.id}/scores.{kind}")
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "This training has no scores yet. Find its harmful images first.",
        )


# ── what can be chosen ────────────────────────────────────────────────────────────────────────────


def test_what_can_be_chosen_is_what_is_described() -> None:
    def choices(shape: type, field: str) -> set[str]:
        schema = shape.model_json_schema()["properties"][field]
        return set(next(one["enum"] for one in [schema, *schema.get("anyOf", [])] if "enum" in one))

    assert choices(RunOptions, "network") == set(NETWORKS)
    assert choices(RunOptions, "schedule") == set(SCHEDULES)
    assert choices(RunOptions, "augmentation") == set(AUGMENTATIONS)
    assert choices(ScoringOptions, "method") == set(METHODS)
    assert choices(ScoringOptions, "span") == set(SPANS)
