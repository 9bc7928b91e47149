"""Photographs end to end: features, a head, harm with errors, a review, a verdict."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sqlalchemy import select

from backend.cleansing import service as cleansing
from backend.core.catalogue import BACKBONES, DEFAULT_BACKBONE, upper_bound
from backend.core.models import Cleansing, Review, Run, Scoring, Suggestion, User
from backend.review.deciding.decision_log import Choice
from backend.review.deciding.decisions import decide_many
from backend.runs import service as runs
from backend.runs.schemas import RunOptions, ScoringOptions
from tests.factories import a_user
from tests.worker.pipeline.imports.importing import Imported, Importer, encoded, importer

__all__ = ["importer"]  # a fixture
pytestmark = pytest.mark.slow

BACKBONE = BACKBONES[DEFAULT_BACKBONE]
COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60)}


def photograph(name: str, number: int) -> bytes:
    """A picture of 90 × 70 pixels, of one colour with noise."""
    generator = np.random.default_rng(2 * number + (name == "red"))
    noise = generator.integers(-40, 40, (70, 90, 3))
    pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
    return encoded(Picture.fromarray(pixels))


@pytest.fixture
def imported(importer: Importer) -> Imported:
    return importer.zip(
        {f"{name}/{n:02d}.png": photograph(name, n) for name in COLOURS for n in range(30)}
    )


@pytest.fixture
def person(importer: Importer) -> User:
    with importer.database.transaction() as session:
        return a_user(session)


def train(importer: Importer, imported: Imported, person: User, **options: object) -> Run:
    with importer.database.transaction() as session:
        data_set = session.merge(imported.row)
        run = runs.create(session, person, data_set, RunOptions(**options))  # type: ignore[arg-type]  # any option
    assert run.job_id is not None
    job = importer.perform(run.job_id)
    assert job.state == "done", job.error
    with importer.database.transaction(write=False) as session:
        return session.get_one(Run, run.id)


def score(importer: Importer, run: Run, person: User) -> tuple[Review, list[Suggestion], Scoring]:
    with importer.database.transaction() as session:
        run = session.get_one(Run, run.id)
        review = runs.start_scoring(session, person, run, ScoringOptions())
    assert review.job_id is not None
    job = importer.perform(review.job_id)
    assert job.state == "done", job.error
    with importer.database.transaction(write=False) as session:
        rows = session.scalars(
            select(Suggestion)
            .where(Suggestion.review_id == review.id)
            .order_by(Suggestion.accuracy_rank)
        ).all()
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        return session.get_one(Review, review.id), list(rows), scoring


def test_photographs_go_from_import_to_a_verdict_with_a_head(
    importer: Importer, imported: Imported, person: User
) -> None:
    run = train(importer, imported, person)
    assert run.recipe["network"] == "linear_head"
    assert run.recipe["backbone"] == BACKBONE.digest
    assert run.recipe["channels"] == BACKBONE.features
    assert importer.storage.has_features(imported.row.id, BACKBONE.digest)

    review, rows, scoring = score(importer, run, person)
    bounds = [upper_bound(row.accuracy_value, row.accuracy_error or 0.0) for row in rows]
    assert all(row.accuracy_error is not None for row in rows)
    assert bounds == sorted(bounds)
    assert scoring.report["surely_harmful"] == sum(bound < 0 for bound in bounds)

    with importer.database.transaction() as session:
        review = session.get_one(Review, review.id)
        first = [row.image_id for row in rows[:2]]
        decide_many(session, person, review, first, Choice("remove"), "a")
        made = cleansing.start(session, person, review, fresh_seeds=3)
    assert made.job_id is not None
    job = importer.perform(made.job_id)
    assert job.state == "done", job.error
    with importer.database.transaction(write=False) as session:
        assert session.get_one(Cleansing, made.id).state == "measured"


def test_a_network_that_was_asked_for_is_trained_on_pixels(
    importer: Importer, imported: Imported, person: User
) -> None:
    run = train(importer, imported, person, network="cifar", epochs=1)
    assert run.recipe["network"] == "cifar"
    assert not run.recipe["backbone"]


def test_features_that_are_gone_are_worked_out_again_by_the_next_training(
    importer: Importer, imported: Imported, person: User
) -> None:
    first = train(importer, imported, person, epochs=2)
    importer.storage.discard(importer.storage.features(imported.row.id, BACKBONE.digest))
    second = train(importer, imported, person, epochs=2)
    assert second.params_hash == first.params_hash


def test_a_scoring_without_its_features_says_so(
    importer: Importer, imported: Imported, person: User, tmp_path: Path
) -> None:
    run = train(importer, imported, person, epochs=2)
    importer.storage.discard(importer.storage.features(imported.row.id, BACKBONE.digest))
    with importer.database.transaction() as session:
        run = session.get_one(Run, run.id)
        review = runs.start_scoring(session, person, run, ScoringOptions())
    assert review.job_id is not None
    job = importer.perform(review.job_id)
    assert (job.state, job.error) == (
        "failed",
        "The features of this data set are not computed yet.",
    )
