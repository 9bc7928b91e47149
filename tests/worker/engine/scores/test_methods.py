"""Each method against its definition, computed slowly per image."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from tests.worker.engine.conftest import a_recipe
from worker.engine import EngineError, Images, features, predict, score, train
from worker.engine.derivatives.passes import mean_gradient_of
from worker.engine.images import draw_batches, unaugmented_batch
from worker.engine.scores.confident_learning import assign_folds
from worker.engine.scores.self_influence import squared_norms
from worker.engine.scores.trust import validation_gradient
from worker.engine.sweep import evaluate_params
from worker.engine.training.runner import make_runner
from worker.engine.trajectory import files
from worker.engine.trajectory.step_store import StepsReader
from worker.engine.trajectory.training_dynamics import NEVER, Signals


@pytest.fixture
def noisy(images) -> tuple[Images, np.ndarray]:
    """Return images with every eighth label wrong, and where."""
    wrong = np.arange(45) % 8 == 0
    return Images(
        images.pixels, np.where(wrong, (images.labels + 1) % 3, images.labels), images.ids
    ), wrong


def gradient_of(run, params, x, y, i) -> torch.Tensor:
    return mean_gradient_of(run.network, params, x[i : i + 1], y[i : i + 1])


def hessian_product(run, params, x, y, v) -> torch.Tensor:
    return torch.func.vjp(lambda p: mean_gradient_of(run.network, p, x, y), params)[1](v)[0]


def by_hand(training, run, validation, *, points, hessian_weight) -> np.ndarray:
    """Run algorithm 1 of the first paper over an epoch with explicit gradients."""
    recipe, values = training.recipe, np.zeros(len(run.images))
    u = validation_gradient(run.network, recipe, training.params, validation)
    for t, positions in reversed(
        list(enumerate(draw_batches(recipe, run.images, recipe.epochs - 1)))
    ):
        x, y = run.batch(recipe.epochs - 1, positions)
        for i, position in enumerate(positions):
            values[position] += (
                recipe.learning_rate
                / len(positions)
                * float(gradient_of(run, points[t], x, y, i) @ u)
            )
        u = u - recipe.learning_rate * hessian_weight(len(positions)) * hessian_product(
            run, points[t], x, y, u
        )
    return values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "frozen", "weight"),
    [
        ("sgd_influence", False, lambda _size: 1.0),
        ("final_params", True, lambda _size: 1.0),
        ("published_code", False, lambda size: 1.0 / size),
    ],
)
def test_retraced_methods_equal_algorithm_one_by_hand(
    images, validation, tmp_path, method, frozen, weight
):
    recipe = a_recipe(
        epochs=2, batch_size=14, augmentation="shift"
    )  # 45 images do not divide into batches of 14
    training = train(recipe, images, None, tmp_path, store="every_step")
    run, _ = make_runner(recipe, images)
    stored = StepsReader(files.steps_file(tmp_path, 1), training.record.run)
    points = [training.params if frozen else stored.point(t)[0] for t in range(run.steps)]
    expected = by_hand(training, run, validation, points=points, hessian_weight=weight)
    scores = score(training, images, validation, method)
    np.testing.assert_allclose(scores.values, expected, rtol=2e-4, atol=1e-7)
    assert scores.exact == (method == "sgd_influence")


@pytest.mark.slow
def test_the_published_code_differs_from_the_equation(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    right, published = (
        score(training, images, validation, method, span="all_epochs")
        for method in ("sgd_influence", "published_code")
    )
    assert np.abs(right.values - published.values).max() > 0.01 * np.abs(right.values).max()


@pytest.mark.slow
def test_final_params_keeps_the_last_state_of_adam(images, validation, tmp_path):
    """Without moments, influence would be that of a first step."""
    training = train(
        a_recipe(optimizer="adam", learning_rate=0.005, epochs=8), images, None, tmp_path
    )
    exact = score(training, images, validation).values
    frozen = score(training, images, validation, "final_params").values
    assert np.corrcoef(exact, frozen)[0, 1] > 0.5
    assert 0.2 < frozen @ exact / (exact @ exact) < 5


@pytest.mark.slow
@pytest.mark.parametrize("span", ["last_epoch", "all_epochs"])
def test_tracin_is_the_sum_of_gradient_products_at_the_ends_of_epochs(
    images, validation, tmp_path, span
):
    recipe = a_recipe(schedule="cosine")
    training = train(recipe, images, None, tmp_path)
    run, _ = make_runner(recipe, images)
    x, y = unaugmented_batch(recipe, images, np.arange(45), torch.float32)
    expected = np.zeros(45)
    for epoch in [2] if span == "last_epoch" else [0, 1, 2]:
        params = files.read_point(files.epoch_file(tmp_path, epoch + 1), training.record.run)[0]
        u = validation_gradient(run.network, recipe, params, validation)
        rate = np.mean([run.rate(epoch, t) for t in range(6)])
        expected += [
            rate * 6 / 45 * float(gradient_of(run, params, x, y, i) @ u) for i in range(45)
        ]
    values = score(training, images, validation, "tracin", span=span).values
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_tracin_adds_up_to_what_the_whole_training_gained(images, validation, tmp_path, momentum):
    """To first order, with small steps (Pruthi et al. 2020, section 3)."""
    recipe = a_recipe(learning_rate=2e-4 * (1 - momentum), momentum=momentum, epochs=60)
    training = train(recipe, images, None, tmp_path)
    run, initial = make_runner(recipe, images)
    before, after = (
        evaluate_params(run.network, recipe, params, validation)[1]
        for params in (initial, training.params)
    )
    assert -score(
        training, images, validation, "tracin", span="all_epochs"
    ).values.sum() == pytest.approx(after - before, rel=0.15)


@pytest.mark.slow
def test_self_influence_is_the_squared_length_of_each_images_gradient(images, validation, tmp_path):
    recipe = a_recipe(epochs=1)
    training = train(recipe, images, None, tmp_path)
    run, _ = make_runner(recipe, images)
    x, y = unaugmented_batch(recipe, images, np.arange(45), torch.float32)
    norms = torch.stack(
        [gradient_of(run, training.params, x, y, i).square().sum() for i in range(45)]
    )
    torch.testing.assert_close(
        squared_norms(run.network, training.params, x, y), norms, rtol=1e-4, atol=1e-7
    )
    values = score(training, images, validation, "self_influence").values
    np.testing.assert_allclose(
        values, -recipe.learning_rate * 6 / 45 * norms.double().numpy(), rtol=1e-4
    )
    # The number of gradients at a time changes nothing.
    small = score(
        training, images, validation, "self_influence", memory_budget=16 * training.params.numel()
    ).values
    np.testing.assert_allclose(small, values, rtol=1e-4)


def test_forgetting_is_counted_over_the_logits_that_training_saw(noisy, validation, tmp_path):
    images, _ = noisy
    recipe = a_recipe(epochs=6, learning_rate=0.02)
    training = train(recipe, images, None, tmp_path, store="every_step")
    run, _ = make_runner(recipe, images)
    right = np.zeros((6, 45), dtype=bool)
    for epoch in range(6):
        stored = StepsReader(files.steps_file(tmp_path, epoch), training.record.run)
        for t, positions in enumerate(draw_batches(recipe, images, epoch)):
            x, y = run.batch(epoch, positions)
            right[epoch, positions] = (
                run.network.logits(stored.point(t)[0], x).argmax(1) == y
            ).numpy()
    forgotten = (right[:-1] & ~right[1:]).sum(0)
    never = ~right.any(0)
    assert forgotten.sum() > 0
    assert never.any()
    np.testing.assert_array_equal(training.signals.forgotten, np.where(never, NEVER, forgotten))
    scores = score(training, images, validation, "forgetting")
    np.testing.assert_array_equal(scores.values, np.where(never, -7, -forgotten))
    assert scores.report["never_learned"] == never.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["margin", "highest_loss", "self_influence", "confident_learning", "forgetting"]
)
def test_methods_that_look_at_labels_find_wrong_ones(noisy, validation, tmp_path, method):
    images, wrong = noisy
    training = train(a_recipe(epochs=8), images, None, tmp_path)
    values = score(training, images, validation, method, span="all_epochs").values
    assert roc_auc_score(wrong, -values) > (0.75 if method == "forgetting" else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    ["marginal_influence", "tracin", "influence_function", "self_influence", "sgd_influence"],
)
def test_a_scoring_can_be_stopped_within_a_pass(images, validation, tmp_path, monkeypatch, method):
    """A cancelled job must not run for minutes."""
    monkeypatch.setattr("worker.engine.networks.flat_network.LARGEST_PASS", 8)
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    seen = []
    score(
        training,
        images,
        validation,
        method,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len(seen) >= 6
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_highest_loss_is_the_loss(images, validation, tmp_path):
    training = train(a_recipe(), images, None, tmp_path)
    expected = np.log(predict(training, images))[np.arange(45), images.labels]
    np.testing.assert_allclose(
        score(training, images, validation, "highest_loss").values, expected, rtol=1e-4, atol=1e-6
    )


def test_random_is_another_draw_for_each_seed_and_the_same_for_one(images, validation, tmp_path):
    values = [
        score(
            train(a_recipe(seed=seed, epochs=1), images, None, tmp_path / str(seed)),
            images,
            validation,
            "random",
        ).values
        for seed in (1, 2)
    ]
    again = score(
        train(a_recipe(seed=1, epochs=1), images, None, tmp_path / "1"),
        images,
        validation,
        "random",
    ).values
    np.testing.assert_array_equal(values[0], again)
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.5
    assert len(np.unique(values[0])) == 45


@pytest.mark.slow
def test_outliers_are_those_of_an_isolation_forest_on_the_features(images, validation, tmp_path):
    pixels = images.pixels.copy()
    pixels[7] = 255 - pixels[7]  # like none of the others
    images = Images(pixels, images.labels, images.ids)
    training = train(a_recipe(epochs=6), images, None, tmp_path)
    values = score(training, images, validation, "outlier").values
    found = features(training, images)
    expected = IsolationForest(random_state=7).fit(found).score_samples(found)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert int(values.argmin()) == 7


def test_the_forest_learns_from_a_sample_of_many_images(images, validation, tmp_path, monkeypatch):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    monkeypatch.setattr("worker.engine.scores.outlier.SAMPLE", 20)
    scores = score(training, images, validation, "outlier")
    assert scores.report["sample"] == 20
    assert np.isfinite(scores.values).all()


def test_folds_deal_out_each_class_evenly_and_hang_on_ids_alone(images):
    dealt = assign_folds(images, 7, 5)
    for label in range(3):
        assert np.bincount(dealt[images.labels == label]).tolist() == [3] * 5
    order = np.random.default_rng(0).permutation(45)
    np.testing.assert_array_equal(assign_folds(images.subset(order), 7, 5), dealt[order])
    assert (assign_folds(images, 8, 5) != dealt).any()


@pytest.mark.slow
def test_confident_learning_asks_models_that_never_saw_the_image(noisy, validation, tmp_path):
    images, wrong = noisy
    training = train(a_recipe(epochs=8), images, None, tmp_path / "run")
    scores = score(training, images, validation, "confident_learning", folds=3)
    dealt = assign_folds(images, training.recipe.seed, 3)
    others, held = (
        images.subset(np.flatnonzero(dealt != 1)),
        images.subset(np.flatnonzero(dealt == 1)),
    )
    probabilities = predict(train(training.recipe, others, None, tmp_path / "by hand"), held)
    np.testing.assert_allclose(
        scores.values[dealt == 1], probabilities[np.arange(len(held)), held.labels], rtol=1e-5
    )
    assert scores.report["labels_taken_for_wrong"] == pytest.approx(wrong.sum(), abs=3)


def test_stopped_folds_go_on_and_finished_ones_are_not_trained_again(noisy, validation, tmp_path):
    images, _ = noisy
    training = train(a_recipe(), images, None, tmp_path)
    seen = []

    class Stop(Exception):
        pass

    def stop(done, total):
        seen.append((done, total))
        if done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        score(training, images, validation, "confident_learning", folds=2, progress=stop)
    assert (tmp_path / "fold-1-of-2" / "epoch-0003.safetensors").exists()
    seen.clear()
    score(
        training,
        images,
        validation,
        "confident_learning",
        folds=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[0][0] > seen[0][1] // 2
    seen.clear()
    score(
        training,
        images,
        validation,
        "confident_learning",
        folds=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert not seen


def test_folds_that_make_no_sense_are_sentences(images, validation, tmp_path):
    training = train(a_recipe(epochs=1), images, None, tmp_path)
    for folds, sentence in (
        (1, "at least 2 folds, not 1"),
        (46, "into 46 folds, and there are only 45"),
    ):
        with pytest.raises(EngineError, match=sentence):
            score(training, images, validation, "confident_learning", folds=folds)
    labels = images.labels.copy()
    labels[labels == 2] = 0
    labels[0] = 2
    with pytest.raises(EngineError, match="class number 2 has a single training image: no"):
        assign_folds(Images(images.pixels, labels, images.ids), 0, 5)
    labels[1] = 3
    with pytest.raises(
        EngineError, match=r"have a single training image each \(number 2, number 3\)"
    ):
        assign_folds(Images(images.pixels, labels, images.ids), 0, 5)


def test_signals_of_another_number_of_images_are_refused(images, tmp_path):
    from worker.engine import load_training
    from worker.engine.trajectory.training_dynamics import signals_file, write_signals

    training = train(a_recipe(epochs=1), images, None, tmp_path)
    write_signals(signals_file(tmp_path, 1), Signals.empty(44), training.record.run)
    with pytest.raises(EngineError, match="another number of images"):
        load_training(tmp_path)
