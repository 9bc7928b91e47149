"""Explanations against the retracing, derivatives and runs without the image."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.worker.engine.conftest import a_recipe, some_images
from tests.worker.engine.derivatives.test_retrace import (  # noqa: F401 - fixtures
    OPTIMIZERS,
    network,
    run,
    sample,
    start,
)
from worker.engine import Images, explain, leave_out, score, train
from worker.engine.influence.explain import carry_forward
from worker.engine.optimizers import optimizer
from worker.engine.sweep import compute_losses
from worker.engine.training.runner import make_runner


@pytest.mark.slow
@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_effect_carried_forward_is_the_derivative_of_the_end(network, start, sample, settings):  # noqa: F811
    x, y = sample
    recipe = a_recipe(**settings)
    update, everyone = optimizer(recipe), torch.ones(len(y), dtype=torch.float64)
    _, steps = run(network, recipe, start, x, y, everyone)
    for i in (0, 5, 11):
        moved = None
        for step in steps:
            gone = torch.nonzero(step.positions == i).flatten()
            if moved is not None or len(gone):
                moved = carry_forward(network, update, step, moved, gone)
        ends = []
        for sign in (-1, 1):
            weights = everyone.clone()
            weights[i] += sign * 1e-4
            ends.append(run(network, recipe, start, x, y, weights)[0])
        # Leaving out is a falling weight.
        torch.testing.assert_close(moved[0], -(ends[1] - ends[0]) / 2e-4, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("span", ["last_epoch", "all_epochs"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9, "schedule": "cosine"}, {"optimizer": "adam", "learning_rate": 0.002}],
)
def test_the_mean_of_an_exact_explanation_is_the_images_influence(
    images, validation, tmp_path, settings, span
):
    training = train(a_recipe(augmentation="shift", **settings), images, None, tmp_path)
    values = score(training, images, validation, span=span).values
    for position in (0, 7, 44):
        found = explain(training, images, validation, position, span=span, exact=True)
        assert found.mean() == pytest.approx(
            values[position], rel=1e-2, abs=1e-3 * np.abs(values).max()
        )


def losses(training, images) -> np.ndarray:
    return compute_losses(
        make_runner(training.recipe, images)[0].network, training.recipe, training.params, images
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.003},
        {"momentum": 0.9, "learning_rate": 0.0005},
        {"optimizer": "adam", "learning_rate": 0.0001},
    ],
)
def test_explanations_agree_with_really_leaving_the_image_out(images, tmp_path, settings):
    validation = some_images(60, seed=1, first_id=1000)
    labels = images.labels.copy()
    labels[0] = 1  # wrong, so it hurts
    images = Images(images.pixels, labels, images.ids)
    training = train(a_recipe(**settings), images, None, tmp_path / "with")
    before, quick, exact = losses(training, validation), [], []
    for position in (0, 10, 20, 30):
        without = leave_out(
            training, images, validation, np.array([position]), tmp_path / str(position)
        ).training
        truth = losses(without, validation) - before
        for found, deep in ((quick, False), (exact, True)):
            explained = explain(
                training, images, validation, position, span="all_epochs", exact=deep
            )
            # Order, and size: the slope of the truth over the explanation.
            found.append(
                (spearmanr(explained, truth).statistic, explained @ truth / (explained @ explained))
            )
    order, size = np.mean(exact, axis=0)
    assert order > 0.9
    assert 0.7 < size < 1.5
    order, size = np.mean(quick, axis=0)
    assert order > 0.8
    assert 0.3 < size < 1.1  # not counting effects that later steps undo


def test_explanations_differ_between_images(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    found = [explain(training, images, validation, position) for position in range(6)]
    assert found[0].shape == (30,)
    assert found[0].dtype == np.float64
    assert len({tuple(np.argsort(one)) for one in found}) == 6
    # Images 0, 1 and 2 are of different classes, so their most affected images differ.
    assert (
        len({tuple(np.argsort(one)[:5]) for one in found[:3]})
        == len({tuple(np.argsort(-one)[:5]) for one in found[:3]})
        == 3
    )


@pytest.mark.parametrize("store", ["every_step", "recipe", "final_params"])
def test_any_store_explains(images, validation, tmp_path, store):
    expected = explain(train(a_recipe(), images, None, tmp_path / "a"), images, validation, 3)
    found = explain(
        train(a_recipe(), images, None, tmp_path / "b", store=store), images, validation, 3
    )
    np.testing.assert_array_equal(found, expected)
