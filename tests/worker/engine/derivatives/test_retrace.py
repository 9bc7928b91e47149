"""The recursion against explicit Hessians and true leave-one-out, in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.worker.engine.conftest import SGD, a_recipe
from worker.engine.derivatives.passes import (
    TrainingStep,
    fused_pass,
    fused_pass_in_parts,
    mean_gradient_of,
    products,
)
from worker.engine.derivatives.retrace import Relabelling, retrace
from worker.engine.networks.registry import Network
from worker.engine.optimizers import initial_state, optimizer
from worker.engine.recipe import SCHEDULES

COUNT, BATCH, FEATURES, CLASSES, EPOCHS = 12, 4, 5, 3, 3

UPDATES = SGD | {
    "adam": {"optimizer": "adam", "learning_rate": 0.02},
    "adam with weight decay": {"optimizer": "adam", "learning_rate": 0.02, "weight_decay": 0.05},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.02, "weight_decay": 0.05},
}
OPTIMIZERS = {
    f"{name}, {schedule}": {**settings, "schedule": schedule}
    for name, settings in UPDATES.items()
    for schedule in SCHEDULES
}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double())


@pytest.fixture(scope="module")
def start(network) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(network.size, generator=generator, dtype=torch.float64) * 0.5


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(COUNT, FEATURES, generator=generator, dtype=torch.float64), torch.arange(
        COUNT
    ) % CLASSES


def run(network, recipe, params, x, y, weights):
    """Train with a weight per image; returns the end and the steps in order."""
    update, state = optimizer(recipe), initial_state(recipe, params)
    steps = []
    per_epoch = COUNT // BATCH
    for t in range(EPOCHS * per_epoch):
        generator = torch.Generator().manual_seed(t // per_epoch)
        positions = torch.randperm(COUNT, generator=generator)[
            (t % per_epoch) * BATCH : (t % per_epoch + 1) * BATCH
        ]
        rate = recipe.rate(t, EPOCHS * per_epoch)
        steps.append(TrainingStep(params, state, x[positions], y[positions], positions, rate))
        gradient = mean_gradient_of(network, params, x[positions], y[positions], weights[positions])
        params, state = update(params, state, gradient, rate)
    return params, steps


def harm(network, params, x, y) -> float:
    """Return the validation loss; the training sample with reversed labels serves."""
    return float(network.losses(params, x.flip(0) * 0.9, y).mean())


def influences(network, recipe, start, x, y) -> np.ndarray:
    end, steps = run(network, recipe, start, x, y, torch.ones(COUNT, dtype=torch.float64))
    adjoint = torch.func.grad(lambda p: network.losses(p, x.flip(0) * 0.9, y).mean())(end)
    zeros = {key: torch.zeros_like(value) for key, value in steps[0].state.items()}
    influence = torch.zeros(COUNT, dtype=torch.float64)
    retrace(network, optimizer(recipe), reversed(steps), adjoint, zeros, influence)
    return influence.numpy()


def test_the_fused_pass_equals_a_loop_of_single_images(network, start, sample):
    x, y = sample
    direction = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    inner, *_ = fused_pass(network, start, direction, x, y)
    for i in range(COUNT):
        gradient = mean_gradient_of(network, start, x[i : i + 1], y[i : i + 1])
        assert float(inner[i]) == pytest.approx(float(gradient @ direction), rel=1e-10)
    torch.testing.assert_close(products(network, start, direction, x, y), inner, rtol=1e-12, atol=0)


def test_the_fused_pass_gives_the_hessian_vector_product(network, start, sample):
    x, y = sample
    direction = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    hessian = torch.func.hessian(lambda p: network.losses(p, x, y).mean())(start)
    product = fused_pass(network, start, direction, x, y).hessian_product
    torch.testing.assert_close(product, hessian @ direction, rtol=1e-9, atol=1e-12)


def test_left_out_images_have_no_part_in_the_hessian_and_the_divisor_stays(network, start, sample):
    x, y = sample
    direction = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    weights = torch.ones(COUNT, dtype=torch.float64)
    weights[3] = 0

    def mean_loss(params):
        return (
            functional.cross_entropy(network.logits(params, x), y, reduction="none") * weights
        ).mean()

    product = fused_pass(network, start, direction, x, y, weights).hessian_product
    torch.testing.assert_close(
        product, torch.func.hessian(mean_loss)(start) @ direction, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("left_out", [None, 0, 9])
@pytest.mark.parametrize(("images_per_pass", "sizes"), [(4, [4, 4, 3]), (6, [6, 5]), (1, [1] * 11)])
def test_the_fused_pass_in_parts_equals_the_whole_one(
    network, start, sample, monkeypatch, images_per_pass, sizes, left_out
):
    # Eleven images: parts differ in size, so averaging them would be wrong.
    x, y = sample[0][:11], sample[1][:11]
    weights = (
        None
        if left_out is None
        else torch.ones(11, dtype=torch.float64).index_fill(0, torch.tensor(left_out), 0)
    )
    step = TrainingStep(start, {}, x, y, torch.arange(11), 0.1, weights)
    direction = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    inner, hessian_product, _ = fused_pass(network, start, direction, x, y, weights)

    seen = []

    def counted(*arguments):
        seen.append(len(arguments[4]))
        return fused_pass(*arguments)

    monkeypatch.setattr(Network, "images_per_pass", lambda *_arguments: images_per_pass)
    monkeypatch.setattr("worker.engine.derivatives.passes.fused_pass", counted)
    inner_in_parts, product_in_parts, _ = fused_pass_in_parts(network, step, direction)
    assert seen == sizes
    torch.testing.assert_close(inner_in_parts, inner, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(product_in_parts, hessian_product, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_influence_is_the_derivative_of_really_leaving_an_image_out(
    network, start, sample, settings
):
    x, y = sample
    recipe = a_recipe(**settings)
    influence = influences(network, recipe, start, x, y)
    epsilon = 1e-4
    for i in range(COUNT):
        losses = []
        for sign in (-1, 1):
            weights = torch.ones(COUNT, dtype=torch.float64)
            weights[i] += sign * epsilon
            losses.append(harm(network, run(network, recipe, start, x, y, weights)[0], x, y))
        # Influence is loss without − loss with: minus the derivative by the image's weight.
        measured = -(losses[1] - losses[0]) / (2 * epsilon)
        assert influence[i] == pytest.approx(measured, rel=1e-4, abs=1e-9)


def test_influence_predicts_whole_removals_in_sign_rank_and_magnitude(network, start, sample):
    x, y = sample
    # A low rate: a removal's effect is linear only while the run stays close.
    recipe = a_recipe(learning_rate=0.005)
    influence = influences(network, recipe, start, x, y)
    full = harm(
        network, run(network, recipe, start, x, y, torch.ones(COUNT, dtype=torch.float64))[0], x, y
    )
    measured = []
    for i in range(COUNT):
        weights = torch.ones(COUNT, dtype=torch.float64)
        weights[i] = 0
        measured.append(harm(network, run(network, recipe, start, x, y, weights)[0], x, y) - full)
    measured = np.array(measured)
    assert (np.sign(influence) == np.sign(measured)).all()
    assert np.corrcoef(influence.argsort().argsort(), measured.argsort().argsort())[0, 1] > 0.95
    np.testing.assert_allclose(influence, measured, rtol=0.05, atol=0.02 * abs(measured).max())


def test_a_planted_wrong_label_has_negative_influence(network, start, sample):
    x, _ = sample
    y = (x[:, 0] > 0).long()
    wrong = y.clone()
    wrong[0] = 1 - wrong[0]
    end, steps = run(
        network,
        a_recipe(learning_rate=0.3),
        start,
        x,
        wrong,
        torch.ones(COUNT, dtype=torch.float64),
    )
    adjoint = torch.func.grad(lambda p: network.losses(p, x, y).mean())(end)
    influence = torch.zeros(COUNT, dtype=torch.float64)
    retrace(
        network, optimizer(a_recipe(learning_rate=0.3)), reversed(steps), adjoint, {}, influence
    )
    assert int(influence.argmin()) == 0
    assert float(influence[0]) < 0


@pytest.mark.parametrize("settings", UPDATES.values(), ids=UPDATES)
def test_the_influence_of_another_label_equals_the_finite_difference(
    network, start, sample, settings
):
    x, y = sample
    recipe = a_recipe(**({"learning_rate": 0.1} | settings))
    end, steps = run(network, recipe, start, x, y, torch.ones(COUNT, dtype=torch.float64))
    adjoint = torch.func.grad(lambda p: network.losses(p, x.flip(0) * 0.9, y).mean())(end)
    zeros = {key: torch.zeros_like(value) for key, value in steps[0].state.items()}
    relabelling = Relabelling(COUNT, CLASSES)
    relabelling.values = relabelling.values.double()
    retrace(
        network,
        optimizer(recipe),
        reversed(steps),
        adjoint,
        zeros,
        torch.zeros(COUNT, dtype=torch.float64),
        relabelling=relabelling,
    )
    image, label, part = 1, 2, 1e-5

    def harm_with(share: float) -> float:
        """Train with a share of the image's loss by the other label."""
        update, state, params = optimizer(recipe), initial_state(recipe, start), start
        for step in steps:
            gradient = mean_gradient_of(network, params, step.x, step.y)
            if image in step.positions:
                one = x[image : image + 1]
                for place, weight in ((label, share), (int(y[image]), -share)):
                    gradient = gradient + weight / BATCH * mean_gradient_of(
                        network, params, one, torch.tensor([place])
                    )
            params, state = update(params, state, gradient, step.learning_rate)
        return harm(network, params, x, y)

    measured = (harm_with(part) - harm_with(-part)) / (2 * part)
    assert float(relabelling.values[image, label]) == pytest.approx(measured, rel=1e-5)
    assert float(relabelling.values[image, y[image]]) == 0
