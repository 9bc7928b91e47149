"""The unattended loop's parts, against the API; tests/loop starts the whole of it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from backend.cli.client import Client
from backend.core.db import Database
from backend.core.models import DataSet, Image, Suggestion
from benchmarks._planting import plant
from benchmarks.loop import Plan, choose_source, decide, summarize
from tests.factories import a_data_set, a_review, a_run


@pytest.fixture
def client(api_client: TestClient) -> Client:
    """The loop's client, speaking to the application of this test."""
    made = Client("http://testserver", "")
    made._http.close()
    made._http = api_client
    return made


# ── the reviewer ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def review(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        data_set = a_data_set(session, planted=9, per_class=60)
        review = a_review(session, a_run(session, data_set))
        return {"data_set_id": data_set.id, "review_id": review.id}


def decisions(database: Database) -> dict[int, str]:
    """Position in the default queue → decision."""
    with database.transaction() as session:
        found = session.execute(
            select(Suggestion.position, Suggestion.decision).where(Suggestion.decision.is_not(None))
        )
        return dict(map(tuple, found))


def planted_positions(database: Database) -> set[int]:
    with database.transaction() as session:
        wrong = (
            select(Suggestion.position)
            .join(Image, Image.id == Suggestion.image_id)
            .where(Image.true_label.is_not(None))
        )
        return set(session.scalars(wrong))


def test_the_reviewer_looks_at_the_first_of_the_queue_removes_what_was_planted_and_keeps_the_rest(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    decide(client, Plan(look=0.9), **review)
    made = decisions(database)
    assert sorted(made) == list(range(1, 115))  # 90 % of 126, rounded up: more than one page of 100
    removed = {position for position, decision in made.items() if decision == "remove"}
    assert removed == planted_positions(database) & set(made)
    assert removed
    assert {made[position] for position in set(made) - removed} == {"keep"}


def test_the_top_is_removed_unseen_where_that_was_asked_for(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    decide(client, Plan(remove_top=7), **review)
    assert decisions(database) == dict.fromkeys(range(1, 8), "remove")


def test_looking_at_nothing_decides_nothing(
    client: Client, database: Database, review: dict[str, int]
) -> None:
    decide(client, Plan(look=0.0), **review)
    assert decisions(database) == {}


# ── planted errors ────────────────────────────────────────────────────────────────────────────────


def labels(database: Database) -> dict[int, tuple[str, int, int | None]]:
    with database.transaction() as session:
        return {
            image.id: (image.split, image.label, image.true_label)
            for image in session.scalars(select(Image))
        }


def test_planting_flips_that_share_of_the_training_labels_and_remembers_the_truth(
    database: Database,
) -> None:
    with database.transaction() as session:
        data_set_id = a_data_set(session).id
    before = labels(database)
    assert plant(database, data_set_id, 0.25, seed=3) == 10  # a quarter of 42, rounded
    after = labels(database)
    flipped = {image_id for image_id in after if after[image_id] != before[image_id]}
    assert len(flipped) == 10
    for image_id in flipped:
        split, label, true_label = after[image_id]
        assert (split, true_label) == ("train", before[image_id][1])
        assert label != true_label
    with database.transaction() as session:
        assert session.get_one(DataSet, data_set_id).planted_count == 10


def test_planting_is_repeatable_by_its_seed_and_nothing_where_no_share_is_asked_for(
    database: Database,
) -> None:
    with database.transaction() as session:
        first, second, third = (a_data_set(session, seed=1).id for _ in range(3))
    plant(database, first, 0.2, seed=5)
    plant(database, second, 0.2, seed=5)
    plant(database, third, 0.0, seed=5)
    with database.transaction() as session:
        flips = [
            list(
                session.execute(
                    select(Image.row, Image.label).where(
                        Image.data_set_id == one, Image.true_label.is_not(None)
                    )
                ).all()
            )
            for one in (first, second, third)
        ]
    assert flips[0] == flips[1] != []
    assert flips[2] == []


# ── the last line ─────────────────────────────────────────────────────────────────────────────────


def test_the_summary_has_the_promised_figures_and_no_others() -> None:
    measure = {
        "before": 0.9,
        "cleaned": 0.92,
        "random": 0.9,
        "difference": 0.02,
        "ci95": [0.01, 0.03],
        "ci95_seeds": [0, 1],
        "better": True,
    }
    question = {"accuracy": measure, "loss": measure, "judgement": "improved"}
    verdict = {
        "planted": 5,
        "removed": 4,
        "found": 4,
        "same_seed": question,
        "fresh_seeds": question,
        "sentence": "It got better.",
    }
    told = summarize("Digits", verdict, {"train": 1.0})
    figures = {
        name: measure[name] for name in ("before", "cleaned", "random", "difference", "ci95")
    }
    both = {"accuracy": figures, "loss": figures}
    counts = {"planted": 5, "removed": 4, "found": 4}
    assert told == {
        "data_set": "Digits",
        **counts,
        "same_seed": both,
        "fresh_seeds": both,
        "seconds": {"train": 1.0},
    }


def test_data_in_place_of_the_sample_is_a_folder_idx_files_or_an_archive_to_upload(
    tmp_path: Path,
) -> None:
    archive = tmp_path / "photos.zip"
    archive.touch()
    assert choose_source(None, False) == ({"kind": "sample"}, None)
    assert choose_source(tmp_path, False) == ({"kind": "folder", "path": str(tmp_path)}, None)
    assert choose_source(tmp_path, True) == ({"kind": "idx", "path": str(tmp_path)}, None)
    assert choose_source(archive, False) == ({}, archive)
