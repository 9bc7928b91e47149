"""Whole scorings of real runs: stores agree bit for bit, drift is refused, and scores mean what they say."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from tests.engine.conftest import a_recipe, some_images
from worker.engine import METHODS, EngineError, Images, ReplayDrift, explain, score, train
from worker.engine.data import batches
from worker.engine.models import build
from worker.engine.retrace import mean_gradient_of
from worker.engine.scores import Asked
from worker.engine.scores.influence import marginal_influence
from worker.engine.scores.trust import validation_gradient
from worker.engine.training import runner


@pytest.fixture
def noisy(images) -> tuple[Images, np.ndarray]:
    """Images of which every eighth has a wrong label, and where those are."""
    wrong = np.arange(45) % 8 == 0
    return Images(images.pixels, np.where(wrong, (images.labels + 1) % 3, images.labels), images.ids), wrong


@pytest.mark.parametrize("span", ["last_epoch", "all_epochs"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_three_exact_stores_give_the_same_bits(images, validation, tmp_path, span, momentum):
    recipe = a_recipe(momentum=momentum, augmentation="shift")
    values = []
    for store in ("every_step", "epoch_starts", "recipe"):
        training = train(recipe, images, None, tmp_path / store, store=store)
        scores = score(training, images, validation, span=span)
        assert scores.exact
        values.append(scores.values)
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_a_small_memory_budget_changes_no_bit(images, validation, tmp_path):
    training = train(a_recipe(batch_size=4), images, None, tmp_path)
    roomy = score(training, images, validation).values
    point = 4 * training.params.numel()
    np.testing.assert_array_equal(score(training, images, validation, memory_budget=7 * point).values, roomy)
    with pytest.raises(EngineError, match="allow more"):
        score(training, images, validation, memory_budget=3 * point)
    with pytest.raises(EngineError, match="below two sets of parameters"):
        score(training, images, validation, memory_budget=point)


def test_a_replay_that_does_not_reach_the_hash_stops_unless_asked_to_go_on(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    path = tmp_path / "epoch-0002.safetensors"
    tensors = load_file(path)
    tensors["params"][0] += 1e-3
    save_file(tensors, path)
    with pytest.raises(ReplayDrift, match=r"epoch 3 .*torch .*threads"):
        score(training, images, validation)
    assert not score(training, images, validation, allow_drift=True).exact


def test_the_last_epoch_alone_equals_the_end_of_a_longer_span_by_hand(images, validation, tmp_path):
    """Against a slow, independent recursion with an explicit gradient for each image and finite differences for H u."""
    recipe = a_recipe(epochs=1, batch_size=15)
    training = train(recipe, images, None, tmp_path, store="every_step")
    run, _ = runner(recipe, images)
    points = load_file(tmp_path / "steps-0000.safetensors")["params"]
    u = validation_gradient(run.network, recipe, training.params, validation)
    expected = np.zeros(45)
    for t, positions in reversed(list(enumerate(batches(recipe, images, 0)))):
        x, y = run.batch(0, positions)
        for i, position in enumerate(positions):
            gradient = mean_gradient_of(run.network, points[t], x[i : i + 1], y[i : i + 1])
            expected[position] += recipe.learning_rate / len(positions) * float(gradient @ u)
        if t:
            _, product = torch.func.vjp(lambda p, x=x, y=y: mean_gradient_of(run.network, p, x, y), points[t])
            u = u - recipe.learning_rate * product(u)[0]
    np.testing.assert_allclose(score(training, images, validation).values, expected, rtol=1e-4, atol=1e-7)


def test_influence_agrees_with_really_leaving_groups_out(noisy, validation, tmp_path):
    images, wrong = noisy
    training = train(a_recipe(epochs=6, learning_rate=0.02), images, None, tmp_path)
    scores = score(training, images, validation, verify=True)
    assert scores.report["predicted_change"] < 0
    assert scores.report["measured_change"] == pytest.approx(scores.report["predicted_change"], rel=0.3)
    assert scores.values[wrong].mean() < scores.values[~wrong].mean()


def test_marginal_influence_with_every_step_sampled_equals_the_average_image_by_image(images, validation, tmp_path, monkeypatch):
    recipe = a_recipe(epochs=1, batch_size=15)
    training = train(recipe, images, None, tmp_path)
    run, _ = runner(recipe, images)
    from worker.engine.replay import Replay

    directions = []
    asked = Asked(Replay(training, run, 2**30), validation, "last_epoch", 1.0, False, lambda _done, _total: None)
    import worker.engine.scores.influence as module

    real = module.retrace

    def recording(*arguments, after_step, **keywords):
        def both(step, direction):
            directions.append((step, direction))
            after_step(step, direction)

        return real(*arguments, after_step=both, **keywords)

    monkeypatch.setattr(module, "retrace", recording)
    values, _ = marginal_influence(asked)
    x, y = run.batch(0, np.arange(45))
    expected = np.zeros(45)
    for step, v in directions:
        for i in range(45):
            expected[i] -= float(mean_gradient_of(run.network, step.params, x[i : i + 1], y[i : i + 1]) @ v) / len(step.y) / len(directions)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-7)


def test_every_method_scores_every_image_and_says_what_it_means(noisy, validation, tmp_path):
    images, _ = noisy
    training = train(a_recipe(), images, None, tmp_path)
    for name, method in METHODS.items():
        scores = score(training, images, validation, name)
        assert scores.values.shape == (45,)
        assert scores.values.dtype == np.float64
        assert method.meaning.endswith(".")
        json.dumps(scores.report)


def test_margin_and_loss_find_wrong_labels(noisy, validation, tmp_path):
    images, wrong = noisy
    training = train(a_recipe(epochs=8), images, None, tmp_path)
    for method in ("margin", "highest_loss"):
        values = score(training, images, validation, method).values
        assert roc_auc_score(wrong, -values) > 0.9


def test_explanations_differ_between_images_and_agree_with_a_real_step(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    first, second = explain(training, images, validation, 0), explain(training, images, validation, 1)
    assert first.shape == (30,)
    assert np.argsort(first)[:5].tolist() != np.argsort(second)[:5].tolist()
    network, _ = build(training.recipe)
    from worker.engine.data import plain

    x, y = plain(training.recipe, images, np.array([0]), torch.float32)
    vx, vy = plain(training.recipe, validation, np.arange(30), torch.float32)
    # A hundredth of the step: far enough from the kinks of ReLU for the first order to be the truth.
    moved = training.params + 0.01 * training.recipe.learning_rate / training.recipe.batch_size * mean_gradient_of(
        network, training.params, x, y
    )
    with torch.no_grad():
        real = (network.losses(moved, vx, vy) - network.losses(training.params, vx, vy)).numpy()
    np.testing.assert_allclose(first * 0.01, real, rtol=0.05, atol=0.02 * abs(real).max())


@pytest.mark.parametrize(
    ("arguments", "sentence"), [({"method": "magic"}, "no method called"), ({"span": "first_epoch"}, "no span called")]
)
def test_an_unknown_method_or_span_is_a_sentence(images, validation, tmp_path, arguments, sentence):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    with pytest.raises(EngineError, match=sentence):
        score(training, images, validation, **arguments)


def test_other_images_and_finished_models_without_steps_are_refused(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path / "a")
    with pytest.raises(EngineError, match="not the images that the run was trained on"):
        score(training, some_images(44), validation)
    final = train(a_recipe(epochs=1), images, None, tmp_path / "b", store="final_params")
    with pytest.raises(EngineError, match="use the method final_params"):
        score(final, images, validation)
    assert not score(final, images, validation, "final_params").exact


def test_the_engine_stands_by_itself():
    program = (
        "import sys, worker.engine\n"
        "assert not {'backend', 'sqlalchemy', 'celery', 'fastapi', 'redis', 'jinja2'} & {name.split('.')[0] for name in sys.modules}"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
