"""A method that leaves images out names the classes that have a single image."""

import pytest

from backend.core.models import DataSet, Job
from tests.cleansing_scenario import Scenario
from tests.worker.pipeline.scoring.scoring import start
from worker import engine
from worker.jobs import perform


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [([1], "and class {1} has a single"), ([0, 2], "have a single training image each ({0}, {2})")],
)
def test_classes_of_a_single_training_image_are_called_by_their_names(
    trained: Scenario, monkeypatch: pytest.MonkeyPatch, classes: list[int], sentence: str
) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise engine.LoneImages(classes)

    monkeypatch.setattr(engine, "score", fails)
    review = start(trained, method="confident_learning")
    perform(review.job_id, trained.database, trained.storage, trained.settings)
    with trained.database.transaction(write=False) as session:
        job = session.get_one(Job, review.job_id)
        names = session.get_one(DataSet, review.data_set_id).class_names
    assert job.state == "failed"
    assert sentence.format(*names) in (job.error or "")
