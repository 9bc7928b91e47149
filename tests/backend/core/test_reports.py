"""Reports read rows of every version, and write back exactly what they read."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from backend.core.db import Database
from backend.core.models import DataSet, Run, Scoring
from backend.core.reports import (
    ImportReport,
    Recipe,
    RunReport,
    ScoringReport,
    Verdict,
    Written,
)
from backend.core.storage import Storage
from tests.factories import a_data_set, a_review, a_run

MEASURE = {
    "before": 0.8,
    "cleaned": 0.9,
    "random": 0.8,
    "difference": 0.1,
    "ci95": [0.05, 0.15],
    "ci95_images": [0.05, 0.15],
    "random_difference": 0.0,
    "random_ci95": [-0.1, 0.1],
    "beyond_random": {"difference": 0.1, "ci95": [0.0, 0.2], "ci95_images": [0.0, 0.2]},
    "judgement": "better",
}
PROTOCOL = {"accuracy": MEASURE, "loss": MEASURE, "judgement": "improved"}
# As the first version wrote it: no doubt, no mislabelled, no fresh starts of a changed image.
FIRST_VERDICT = {
    "planted": None,
    "removed": 3,
    "relabelled": 1,
    "found": None,
    "test_images": 27,
    "same_seed": PROTOCOL,
    "fresh_seeds": PROTOCOL
    | {"seeds": [4], "runs": [{"seed": 4, "arm": "cleaned", "accuracy": 0.9, "loss": 0.1}]},
    "per_class": [
        {
            "label": 0,
            "images": 3,
            "before": 0.8,
            "cleaned": 0.9,
            "random": 0.8,
            "difference": 0.1,
        }
    ],
    "changed": [7],
    "became_right": 1,
    "became_wrong": 0,
    "changes": [{"image_id": 7, "label": 0, "before": 1, "cleaned": 0}],
    "sentence": "Cleaning made the model better.",
    "judgement": "improved",
    "seconds": {"retrain": 12.5, "this_attempt": 13.0},
}
# The first versions knew neither doubt nor costs, and their scorings no sentences of trust.
FIRST_RUN = {
    "seconds": 12,
    "stored_bytes": 1000,
    "parameters": 22_000,
    "training_images": 700,
    "validation_images": 150,
    "environment": {"torch": "2.13.0", "threads": "2"},
}
FIRST_SCORING = {"seconds": 0.4, "stored_bytes": 10, "adjoint_growth": 2, "damping": None}
FIRST_IMPORT = {"split_words": "Splits as given.", "notes": []}


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        (Verdict, FIRST_VERDICT),
        (RunReport, FIRST_RUN),
        (RunReport, {"seconds": 1.0, "images_left_out": [3], "same_as_run": 4}),
        (ScoringReport, FIRST_SCORING),
        (ImportReport, FIRST_IMPORT),
        (Recipe, {"epochs": 5, "momentum": 0, "mean": [0, 0.5]}),
        *((shape, {}) for shape in (RunReport, ScoringReport, ImportReport, Recipe)),
    ],
)
def test_an_old_row_is_read_and_written_back_as_it_is(
    shape: type[Written], row: dict[str, Any]
) -> None:
    later = row | {"of_a_later_version": {"x": 1}}
    for written in (row, later):
        back = shape.model_validate(written).to_json()
        # As text, because 0 and 0.0 make different digests of a recipe.
        assert json.dumps(back, sort_keys=True) == json.dumps(written, sort_keys=True)


def test_what_an_old_row_lacks_has_a_default() -> None:
    verdict = Verdict.model_validate(FIRST_VERDICT)
    assert (verdict.doubt, verdict.mislabelled, verdict.changes[0].fresh_before) == (None,) * 3
    assert (RunReport.model_validate(FIRST_RUN).doubt, RunReport().costs) == (None, {})
    scoring = ScoringReport.model_validate(FIRST_SCORING)
    assert (scoring.warns, scoring.trust, scoring.damping) == (False, [], None)


def test_pages_and_api_show_rows_of_old_versions(
    client: TestClient, database: Database, storage: Storage
) -> None:
    with database.transaction() as session:
        data_set = a_data_set(session, storage, per_class=10)
        data_set.report = FIRST_IMPORT
        run = a_run(session, data_set)
        run.report = FIRST_RUN
        review = a_review(session, run)
        session.get_one(Scoring, review.accuracy_scoring_id).report = FIRST_SCORING
    assert client.get("/api/v1/data-sets/1").json()["report"] == FIRST_IMPORT
    assert client.get("/api/v1/runs/1").json()["report"] == FIRST_RUN
    scorings = client.get("/api/v1/runs/1/reviews").json()["items"][0]["scorings"]
    assert scorings[0]["report"] == FIRST_SCORING
    for address in ("/datasets/1", "/runs/1", "/reviews/1"):
        assert client.get(address).status_code == 200, address
    with database.transaction(write=False) as session:
        assert session.get_one(DataSet, 1).typed_report.notes == []
        assert session.get_one(Run, 1).typed_report.seconds == 12


@pytest.mark.slow
def test_the_document_of_the_api_shows_the_shapes_with_units(client: TestClient) -> None:
    schemas = client.get("/api/openapi.json").json()["components"]["schemas"]
    for holder, field, shape in (
        ("RunSummary", "report", "RunReport"),
        ("RunSummary", "recipe", "Recipe"),
        ("ScoringOut", "report", "ScoringReport"),
        ("DataSetOut", "report", "ImportReport"),
    ):
        assert schemas[holder]["properties"][field]["$ref"].endswith(f"/{shape}")
        undescribed = [
            name
            for name, said in schemas[shape]["properties"].items()
            if not said.get("description")
        ]
        assert undescribed == []
    assert "Verdict" in str(schemas["CleansingOut"]["properties"]["verdict"])
    assert "MethodCost" in str(schemas["MethodOut"]["properties"]["costs"])
