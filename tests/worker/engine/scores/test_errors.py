"""Errors of influence over validation images, and influence of another label, in real runs."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from tests.worker.engine.conftest import a_recipe, some_features, some_images
from worker.engine import (
    Features,
    Recipe,
    Training,
    default_recipe,
    evaluate,
    leave_out,
    score,
    train,
)
from worker.engine.scores.errors import make_groups, standard_errors, upper_bounds

CLASSES, EPOCHS = 3, 4


def a_head(images: Features, **settings) -> Recipe:
    return default_recipe(
        images, CLASSES, **({"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.1} | settings)
    )


@pytest.fixture(scope="module")
def images() -> Features:
    return some_features(80, seed=1)


@pytest.fixture(scope="module")
def validation() -> Features:
    return some_features(200, seed=2, first_id=10_000)


@pytest.fixture(scope="module")
def training(images, validation, tmp_path_factory) -> Training:
    return train(a_head(images), images, validation, tmp_path_factory.mktemp("run"))


def test_groups_hold_every_class_in_proportion(validation):
    groups = make_groups(validation, 8)
    for label in range(CLASSES):
        counts = np.bincount(groups.of_image[validation.labels == label], minlength=8)
        assert counts.max() - counts.min() <= 1
    assert groups.shares.sum() == pytest.approx(1)


def test_each_group_has_the_influence_that_its_images_alone_give(training, images, validation):
    scores = score(training, images, validation, span="all_epochs", groups=5)
    groups = make_groups(validation, 5)
    for group in range(5):
        alone = validation.subset(np.flatnonzero(groups.of_image == group))
        expected = score(training, images, alone, span="all_epochs", groups=0).values
        np.testing.assert_allclose(scores.group_values[:, group], expected, rtol=1e-3, atol=1e-7)
    without = score(training, images, validation, span="all_epochs", groups=0)
    np.testing.assert_allclose(scores.values, without.values, rtol=1e-4, atol=1e-8)
    assert without.errors is None


def test_a_network_has_groups_too_where_someone_pays_for_them(tmp_path):
    images, validation = some_images(16), some_images(12, seed=5, first_id=100)
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    scores = score(training, images, validation, groups=2)
    assert scores.group_values.shape == (16, 2)
    np.testing.assert_allclose(
        scores.values, score(training, images, validation).values, rtol=1e-4, atol=1e-8
    )


def test_a_single_validation_image_gives_values_without_errors(training, images, validation):
    scores = score(training, images, validation.subset(np.array([0])))
    assert scores.errors is None
    assert np.isfinite(scores.values).all()


def test_fewer_validation_images_than_groups_are_a_group_each(training, images, validation):
    scores = score(training, images, validation.subset(np.arange(7)))
    assert scores.group_values.shape == (80, 7)


@pytest.mark.slow
def test_the_interval_covers_the_influence_on_new_images_as_often_as_it_says(training, images):
    everything = some_features(20_000, seed=3, first_id=10_000)
    truth = score(training, images, everything, span="all_epochs", groups=0).values
    covered = []
    for sample in range(50):
        part = everything.subset(np.arange(sample * 400, (sample + 1) * 400))
        scores = score(training, images, part, span="all_epochs")
        covered.append(np.abs(scores.values - truth) <= 1.96 * scores.errors)
    share = np.mean(covered)
    assert 0.90 <= share <= 0.98, share


def test_the_upper_bound_ranks_what_is_sure_before_what_is_large():
    values = np.array([[-1.0, -1.0, -1.1, -0.9], [-9.0, 6.0, -8.0, 5.0], [0.1, 0.1, 0.2, 0.0]])
    bounds = upper_bounds(values.mean(1), standard_errors(values))
    assert list(np.argsort(bounds)) == [0, 2, 1]


@pytest.mark.slow
def test_leaving_an_image_out_changes_the_loss_as_its_influence_says(
    training, images, validation, tmp_path
):
    scores = score(training, images, validation, span="all_epochs")
    measured = np.array(
        [
            leave_out(
                training, images, validation, np.array([position]), tmp_path / str(position)
            ).measured_change
            for position in range(0, 80, 4)
        ]
    )
    predicted = scores.values[::4]
    assert spearmanr(predicted, measured).statistic > 0.98
    assert np.polyfit(predicted, measured, 1)[0] == pytest.approx(1, abs=0.1)
    assert (np.sign(predicted) == np.sign(measured)).mean() > 0.9


def change_of_another_label(
    training: Training, images: Features, validation: Features, folder, position: int, label: int
) -> float:
    labels = images.labels.copy()
    labels[position] = label
    changed = dataclasses.replace(images, labels=labels)
    again = train(training.recipe, changed, None, folder)
    return evaluate(again, validation)[1] - evaluate(training, validation)[1]


@pytest.mark.slow
def test_another_label_changes_the_loss_as_predicted_with_a_head(
    training, images, validation, tmp_path
):
    relabelling = score(training, images, validation, span="all_epochs").relabelling
    assert (relabelling[np.arange(80), images.labels] == 0).all()
    asked = [(position, label) for position in range(20) for label in range(CLASSES)]
    asked = [pair for pair in asked if images.labels[pair[0]] != pair[1]]
    predicted = np.array([relabelling[pair] for pair in asked])
    measured = np.array(
        [
            change_of_another_label(training, images, validation, tmp_path / f"{p}-{c}", p, c)
            for p, c in asked
        ]
    )
    assert kendalltau(predicted, measured).statistic > 0.9
    assert np.polyfit(predicted, measured, 1)[0] == pytest.approx(1, abs=0.15)
