"""Influence at the optimum against trained optima, convex and in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe, some_images
from worker.engine import Images, score, train
from worker.engine.images import unaugmented_batch
from worker.engine.influence.replay import Replay
from worker.engine.networks.registry import Network
from worker.engine.optimizers import optimizer
from worker.engine.scores.influence_function import (
    METHOD,
    conjugate_gradients,
    gauss_newton,
    gauss_newton_sum,
    influence_function,
)
from worker.engine.scores.method import ScoringRequest
from worker.engine.training.runner import Runner, Training
from worker.engine.trajectory.files import RunRecord
from worker.engine.trajectory.training_dynamics import Signals

COUNT, SIDE, CLASSES, DECAY = 24, 3, 3, 1.0


def tiny_images(count: int, seed: int, first_id: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = generator.integers(0, 160, (count, SIDE, SIDE, 1), dtype=np.uint8)
    pixels[np.arange(count), :, labels] += 80
    return Images(
        pixels, labels.astype(np.int64), np.arange(first_id, first_id + count, dtype=np.int64)
    )


@pytest.fixture(scope="module")
def images() -> Images:
    images = tiny_images(COUNT, 0)
    images.labels[0] = 1  # wrong
    return images


@pytest.fixture(scope="module")
def validation() -> Images:
    return tiny_images(15, 1, 1000)


@pytest.fixture(scope="module")
def recipe():
    return a_recipe(height=SIDE, width=SIDE, weight_decay=DECAY)


@pytest.fixture(scope="module")
def network() -> Network:
    """Make softmax regression: strictly convex with weight decay."""
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).double())


def losses(network, recipe, params, images):
    x, y = unaugmented_batch(recipe, images, np.arange(len(images)), torch.float64)
    return network.losses(params, x, y)


def optimum(network, recipe, images, weights) -> torch.Tensor:
    """Minimise (1/N) Σ w_i ℓ_i + (decay/2) ‖θ‖² by Newton's method."""

    def objective(params):
        return (
            losses(network, recipe, params, images) * weights
        ).sum() / COUNT + 0.5 * DECAY * params.square().sum()

    params = torch.zeros(network.size, dtype=torch.float64)
    for _ in range(6):
        gradient, hessian = (
            torch.func.grad(objective)(params),
            torch.func.hessian(objective)(params),
        )
        params = params - torch.linalg.solve(hessian, gradient)
    assert float(torch.func.grad(objective)(params).norm()) < 1e-12
    return params


@pytest.fixture(scope="module")
def scored(network, recipe, images, validation, tmp_path_factory):
    """Score at the optimum with negligible damping and tolerance."""
    params = optimum(network, recipe, images, torch.ones(COUNT, dtype=torch.float64))
    record = RunRecord(recipe, "final_params", images.digest(), "", COUNT, {})
    training = Training(tmp_path_factory.mktemp("none"), record, params, Signals.empty(COUNT))
    run = Runner(recipe, images, network, optimizer(recipe), None)
    options = {"ridge": 1e-12, "tolerance": 1e-12, "iterations": 200}
    asked = ScoringRequest(
        Replay(training, run, 2**30),
        validation,
        "last_epoch",
        1.0,
        lambda _done, _total: None,
        options,
    )
    return params, influence_function(asked)


def test_the_report_says_how_well_the_equation_is_solved(scored):
    report = scored[1][1]
    assert report["converged"]
    assert report["residual"] <= 1e-12
    assert 0 < report["iterations"] <= 200
    assert report["ridge"] == 1e-12


@pytest.mark.slow
def test_influence_is_the_derivative_of_the_optimum_in_the_images_weight(
    scored, network, recipe, images, validation
):
    _, (values, *_) = scored
    epsilon = 1e-4
    for i in range(COUNT):
        ends = []
        for sign in (-1, 1):
            weights = torch.ones(COUNT, dtype=torch.float64)
            weights[i] += sign * epsilon
            ends.append(
                float(
                    losses(
                        network, recipe, optimum(network, recipe, images, weights), validation
                    ).mean()
                )
            )
        # Loss without − loss with: minus the derivative by the weight.
        assert values[i] == pytest.approx(-(ends[1] - ends[0]) / (2 * epsilon), rel=1e-5, abs=1e-10)


@pytest.mark.slow
def test_influence_has_the_sign_and_size_of_really_leaving_the_image_out(
    scored, network, recipe, images, validation
):
    params, (values, *_) = scored
    with_all = float(losses(network, recipe, params, validation).mean())
    truth = []
    for i in range(COUNT):
        weights = torch.ones(COUNT, dtype=torch.float64)
        weights[i] = 0
        truth.append(
            float(
                losses(
                    network, recipe, optimum(network, recipe, images, weights), validation
                ).mean()
            )
            - with_all
        )
    truth = np.array(truth)
    assert int(values.argmin()) == int(truth.argmin()) == 0  # the wrong label
    assert values[0] < 0
    # The second order may flip the sign of an unimportant image.
    large = np.abs(values) > 0.1 * np.abs(values).max()
    assert large.sum() >= 8
    assert (np.sign(values) == np.sign(truth))[large].all()
    assert np.corrcoef(values, truth)[0, 1] > 0.99
    assert truth @ values / (values @ values) == pytest.approx(1, abs=0.15)


def test_on_a_linear_model_the_gauss_newton_matrix_is_the_hessian(network, recipe, images):
    params = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    v = torch.linspace(1, -2, network.size, dtype=torch.float64)
    hessian = torch.func.hessian(lambda p: losses(network, recipe, p, images).mean())(params)
    run = Runner(recipe, images, network, optimizer(recipe), None)
    torch.testing.assert_close(gauss_newton(run, params, v), hessian @ v, rtol=1e-10, atol=1e-14)


def test_on_another_model_it_is_the_explicit_product_of_jacobians():
    torch.manual_seed(0)
    deep = Network(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double())
    params, v = (
        torch.randn(deep.size, dtype=torch.float64),
        torch.randn(deep.size, dtype=torch.float64),
    )
    x = torch.randn(6, 4, dtype=torch.float64)
    expected = torch.zeros_like(v)
    for i in range(6):
        jacobian = torch.func.jacrev(lambda p, i=i: deep.logits(p, x[i : i + 1])[0])(params)
        p = deep.logits(params, x[i : i + 1])[0].softmax(0)
        expected += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian @ v
    torch.testing.assert_close(
        gauss_newton_sum(deep, params, v, x), expected, rtol=1e-10, atol=1e-12
    )


def test_conjugate_gradients_solve_what_they_say_they_solve():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + 0.1 * torch.eye(30, dtype=torch.float64)
    b = torch.randn(30, generator=generator, dtype=torch.float64)
    solved = conjugate_gradients(lambda v: matrix @ v, b, 1e-8, 500)
    torch.testing.assert_close(solved.x, torch.linalg.solve(matrix, b), rtol=1e-5, atol=1e-6)
    assert float((b - matrix @ solved.x).norm() / b.norm()) == pytest.approx(
        solved.residual, rel=0.1
    )
    stopped = conjugate_gradients(lambda v: matrix @ v, b, 1e-8, 3)
    assert stopped.iterations == 3
    assert float((b - matrix @ stopped.x).norm() / b.norm()) == pytest.approx(
        stopped.residual, rel=1e-6
    )
    assert conjugate_gradients(lambda v: matrix @ v, torch.zeros(30), 1e-8, 3).iterations == 0


@pytest.mark.slow
def test_a_run_is_scored_and_too_few_iterations_are_said(tmp_path):
    images, validation = some_images(45), some_images(30, seed=1, first_id=1000)
    training = train(a_recipe(epochs=6), images, None, tmp_path, store="final_params")
    scores = score(training, images, validation, "influence_function")
    assert scores.exact
    assert scores.report["converged"]
    assert scores.report["residual"] <= METHOD.options["tolerance"]
    early = score(training, images, validation, "influence_function", iterations=1, tolerance=1e-6)
    assert not early.report["converged"]
    assert not early.exact
