"""Every arm of a verdict takes as many steps as the training with nothing removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from backend.cleansing import service
from backend.core import queue
from backend.core.models import Cleansing, Review, Run
from tests.cleansing_scenario import Scenario
from worker import engine
from worker.engine.images import draw_batches
from worker.jobs import perform
from worker.pipeline import load_images
from worker.pipeline.cleansing import arms


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "send", lambda *_: None)


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[Scenario]:
    scenario = Scenario(tmp_path / "home")
    yield scenario
    scenario.close()


def start(scenario: Scenario, floor: int | None = None) -> Cleansing:
    with scenario.database.transaction() as session:
        review = session.get_one(Review, scenario.review_id)
        return service.start(session, scenario.owner, review, floor, 3)


def ids_of(scenario: Scenario, label: int) -> list[int]:
    return [image.id for image in scenario.training_images() if image.label == label]


def remove_one(scenario: Scenario) -> int | None:
    scenario.decide([scenario.training_images()[-1].id])
    return None


def remove_a_class(scenario: Scenario) -> int:
    """Remove a class but for one image, as far as a floor allows."""
    scenario.decide(ids_of(scenario, 2))
    return 1


def relabel_only(scenario: Scenario) -> int | None:
    scenario.decide(ids_of(scenario, 2)[:9], "relabel", 1)
    return None


def remove_and_relabel(scenario: Scenario) -> int | None:
    scenario.decide([image.id for image in scenario.training_images()][::2])
    scenario.decide(ids_of(scenario, 1)[:2], "relabel", 0)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("decide", [remove_one, remove_a_class, relabel_only, remove_and_relabel])
@pytest.mark.parametrize("batch_size", [1, 53, 159, 160])
def test_every_arm_takes_the_steps_and_batches_of_before(
    clean: Scenario, decide: Any, batch_size: int
) -> None:
    plan = arms.read(clean.database, clean.storage, start(clean, decide(clean)).id)
    original = engine.default_recipe(plan.parent, 4, seed=3, epochs=3, batch_size=batch_size)
    wanted = [[len(part) for part in draw_batches(original, plan.parent, e)] for e in range(3)]
    for task in plan.tasks:
        images, _ = arms.image_list(plan, task)
        recipe = arms.make_recipe(plan, task, original)
        batches = [draw_batches(recipe, images, epoch) for epoch in range(3)]
        assert [[len(part) for part in epoch] for epoch in batches] == wanted, task.title
        drawn = np.bincount(np.concatenate([part for epoch in batches for part in epoch]))
        assert len(drawn) == len(images)
        assert drawn.max() - drawn.min() <= 1, task.title


@pytest.mark.slow
def test_an_arm_that_an_older_winnow_trained_for_fewer_steps_is_trained_again(
    clean: Scenario,
) -> None:
    remove_one(clean)
    cleansing = start(clean)
    with clean.database.transaction() as session:
        session.execute(update(Run).where(Run.cleansing_id == cleansing.id).values(state="done"))
    plan = arms.read(clean.database, clean.storage, cleansing.id)
    assert {task.key for task in plan.tasks if not task.done} == {
        ("fresh_seeds", seed, arm) for seed in (4, 5, 6) for arm in ("cleaned", "random")
    }
    with clean.database.transaction() as session:
        session.execute(
            update(Run)
            .where(Run.cleansing_id == cleansing.id)
            .values(recipe={"epoch_images": len(plan.parent)})
        )
    assert all(task.done for task in arms.read(clean.database, clean.storage, cleansing.id).tasks)


@pytest.mark.slow
def test_one_right_image_of_33_does_not_make_the_model_worse(tmp_path: Path) -> None:
    """33 images are two steps an epoch of batches of 32; 32 images were one."""
    scenario = Scenario(tmp_path / "home", train=33)
    with scenario.database.transaction() as session:
        images = load_images.load(session, scenario.storage, scenario.version_id, "train")
        validation = load_images.load(session, scenario.storage, scenario.version_id, "validation")
    recipe = engine.default_recipe(
        images, 4, seed=3, network="mnist", epochs=6, batch_size=32, learning_rate=0.05
    )
    assert recipe.steps_per_epoch(33) == 2
    training = engine.train(recipe, images, validation, scenario.storage.run(scenario.run_id))
    with scenario.database.transaction() as session:
        run = session.get_one(Run, scenario.run_id)
        run.state, run.params_hash = "done", training.params_hash
    remove_one(scenario)
    cleansing = start(scenario)
    assert cleansing.job_id is not None
    perform(cleansing.job_id, scenario.database, scenario.storage, scenario.settings)
    with scenario.database.transaction(write=False) as session:
        verdict = session.get_one(Cleansing, cleansing.id).typed_verdict
    scenario.close()
    assert verdict is not None
    assert verdict.judgement == "no_measurable_change"
    assert "worse" not in verdict.sentence
