"""Images of classes that a ranking cannot judge never lead a queue, and are marked."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from backend.core.catalogue import METHODS
from backend.core.models import Image, Review, Run, Score, Scoring
from backend.review import service as reviews
from backend.review.insight import serializers
from backend.review.queue import queue_pages
from backend.runs import service as runs
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import queue_of, start, work
from worker.engine import Images
from worker.pipeline.scoring import judgeable
from worker.pipeline.scoring.write_scores import rank

BLANK = np.zeros((1, 16, 16, 1), dtype=np.uint8)


def labelled(*labels: int) -> Images:
    count = len(labels)
    return Images(np.repeat(BLANK, count, axis=0), np.array(labels), np.arange(count))


def test_harm_needs_three_validation_images_of_a_class() -> None:
    images = labelled(0, 1, 2, 3, 3)
    validation = labelled(0, 0, 0, 1, 1, 2)
    assert judgeable.find_unmeasured(images, validation) == {
        1: "few_validation",
        2: "few_validation",
        3: "no_validation",
    }


def test_a_class_without_training_images_is_no_matter() -> None:
    assert judgeable.find_unmeasured(labelled(0, 2), labelled(0, 0, 0, 2, 2, 2)) == {}


def test_a_class_that_the_model_hardly_ever_names_is_not_learned() -> None:
    images = labelled(*[0] * 20, *[1] * 20, 2, 2, 2)
    predicted = images.labels.copy()
    predicted[20:38] = 0  # two of twenty are right
    predicted[40:] = 0
    assert judgeable.find_unlearned(images, predicted) == {2: "not_learned"}
    predicted[38] = 0
    assert judgeable.find_unlearned(images, predicted) == {1: "not_learned", 2: "not_learned"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_stopped_by_what_it_measures(method: str) -> None:
    images, validation = labelled(0, 0, 1, 1), labelled(0, 0, 0)
    found = judgeable.find_unjudged(method, images, validation, np.zeros(4, dtype=np.int64))
    expected = {1: "no_validation"} if METHODS[method].harm else {1: "not_learned"}
    asks = METHODS[method].harm or METHODS[method].doubts_labels
    assert found == (expected if asks else {})
    assert judgeable.find_unjudged("random", images, validation, None) == {}


def test_what_cannot_be_judged_is_ranked_behind_the_rest() -> None:
    values = np.array([-5.0, 1.0, -4.0, 0.0])
    last = np.array([True, False, True, False])
    assert rank(values, last).ranks.tolist() == [3, 2, 4, 1]
    assert rank(values).ranks.tolist() == [1, 4, 2, 3]
    assert rank(values, np.ones(4, dtype=bool)).ranks.tolist() == [1, 4, 2, 3]


def without_validation(scenario: Scenario, label: int, left: int = 0) -> None:
    """Move a class's validation images to the test split, but for `left`."""
    with scenario.database.transaction() as session:
        ids = session.scalars(
            select(Image.id)
            .where(Image.split == "validation", Image.label == label)
            .order_by(Image.id)
        ).all()
        session.execute(update(Image).where(Image.id.in_(ids[left:])).values(split="test"))


@pytest.mark.slow
@pytest.mark.parametrize(("left", "reason"), [(0, "no_validation"), (2, "few_validation")])
@pytest.mark.parametrize("method", ["final_params", "tracin"])
def test_a_class_without_validation_images_never_leads_by_harm(
    trained: Scenario, method: str, left: int, reason: str
) -> None:
    without_validation(trained, 2, left)
    review = start(trained, method=method)
    work(trained, review.job_id)
    rows = queue_of(trained, review)
    by_rank = [row.label for row in sorted(rows, key=lambda row: row.accuracy_rank)]
    count = by_rank.count(2)
    assert 0 < count < len(rows)
    assert by_rank[-count:] == [2] * count
    with trained.database.transaction(write=False) as session:
        scoring = session.get_one(Scoring, review.accuracy_scoring_id)
        assert scoring.report["unjudged"] == {"2": reason}
        # The order by this method, which other reviews of the run show, is the same.
        ranks = dict(
            session.execute(
                select(Score.image_id, Score.rank).where(Score.scoring_id == scoring.id)
            ).all()
        )
        assert ranks == {row.image_id: row.accuracy_rank for row in rows}
        shown = session.get_one(Review, review.id)
        cards = serializers.cards(
            session,
            trained.owner,
            shown,
            queue_pages.page(session, shown, limit=200).items,
            "queue",
        )
        for card in cards:
            marked = card.label == 2
            assert (card.accuracy_unjudged == reason) == marked
            assert card.accuracy_words.startswith("Can’t be judged") == marked
            if marked:
                assert card.accuracy_share == 0.0
                assert "it hurts accuracy" not in card.brought_by_words
        notices = reviews.list_doubts(session, shown, ["zero", "one", "two", "three"])
        assert any("“two”, so harm can’t be judged there" in notice for notice in notices)
        table = list(runs.score_rows(session, shown))
        said = {row[2]: row[-1] for row in table}
        assert said["<b>two</b>"].startswith("Can’t be judged")
        assert said["one"] == ""


def guess(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the finished model name the class 0 for every image."""
    from worker.pipeline.scoring import job

    def predict(_training: Any, images: Images) -> np.ndarray:
        return np.tile([0.7, 0.1, 0.1, 0.1], (len(images), 1))

    monkeypatch.setattr(job.engine, "predict", predict)
    with scenario.database.transaction() as session:
        run = session.get_one(Run, scenario.run_id)
        run.report = {**run.report, "doubt": "The model has not learned."}


@pytest.mark.slow
def test_classes_that_the_model_has_not_learned_are_not_offered_as_errors(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    guess(trained, monkeypatch)
    review = start(trained, method="margin")
    work(trained, review.job_id)
    rows = queue_of(trained, review)
    learned = sum(row.label == 0 for row in rows)
    assert [row.label for row in rows][:learned] == [0] * learned
    with trained.database.transaction(write=False) as session:
        shown = session.get_one(Review, review.id)
        scoring = session.get_one(Scoring, review.label_scoring_id)
        assert scoring.report["unjudged"] == dict.fromkeys("123", "not_learned")
        items = queue_pages.page(session, shown, limit=200).items
        for card in serializers.cards(session, trained.owner, shown, items, "queue"):
            if card.label:
                assert card.label_words == "Can’t be judged: the model has not learned this class."
                assert "its label looks wrong" not in card.brought_by_words
        tiles = serializers.tiles(session, trained.owner, shown, items, "queue")
        assert {tile.brought for tile in tiles if tile.label} == {"Can’t be judged"}
        notices = reviews.list_doubts(session, shown, ["zero", "one", "two", "three"])
        assert notices[0] == "The model has not learned."
        assert "“one”, “two”, “three”, so its labels can’t be judged" in notices[-1]
