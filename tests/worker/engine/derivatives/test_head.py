"""A linear head's closed forms against autograd, an explicit Hessian, and real runs."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.conftest import a_recipe
from tests.worker.engine.derivatives.test_retrace import UPDATES, harm, influences, run
from worker.engine.derivatives import head as closed
from worker.engine.derivatives.passes import fused_pass, mean_gradient_of, products
from worker.engine.networks.linear_head import LinearHead
from worker.engine.networks.registry import Network
from worker.engine.scores.self_influence import squared_norms

COUNT, INPUTS, CLASSES, DIRECTIONS = 12, 6, 3, 4


@pytest.fixture(scope="module")
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(INPUTS, CLASSES, bias=False).double()


@pytest.fixture(scope="module")
def head(linear) -> LinearHead:
    return LinearHead(linear)


@pytest.fixture(scope="module")
def by_autograd(linear) -> Network:
    return Network(linear)


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(COUNT, INPUTS, generator=generator, dtype=torch.float64)
    x[:, -1] = 1.0
    return x, torch.arange(COUNT) % CLASSES


@pytest.fixture(scope="module")
def directions(head) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(DIRECTIONS, head.size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("left_out", [None, 2])
def test_the_closed_forms_equal_autograd(head, by_autograd, sample, directions, left_out):
    x, y = sample
    params = head.initial
    weights = None
    if left_out is not None:
        weights = torch.ones(COUNT, dtype=torch.float64)
        weights[left_out] = 0.0
    for got, expected in zip(
        fused_pass(head, params, directions, x, y, weights),
        fused_pass(by_autograd, params, directions, x, y, weights),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        products(head, params, directions[0], x, y),
        products(by_autograd, params, directions[0], x, y),
    )
    torch.testing.assert_close(
        mean_gradient_of(head, params, x, y, weights),
        mean_gradient_of(by_autograd, params, x, y, weights),
    )
    torch.testing.assert_close(
        squared_norms(head, params, x, y), squared_norms(by_autograd, params, x, y)
    )


def test_a_step_returns_gradient_logits_and_losses(head, by_autograd, sample):
    x, y = sample
    gradient, logits, losses = closed.step(head, head.initial, x, y)
    torch.testing.assert_close(gradient, mean_gradient_of(by_autograd, head.initial, x, y))
    torch.testing.assert_close(logits, by_autograd.logits(head.initial, x))
    torch.testing.assert_close(losses, by_autograd.losses(head.initial, x, y))


def test_the_hessian_product_equals_the_explicit_hessian(head, sample, directions):
    x, y = sample

    def mean_loss(params: torch.Tensor) -> torch.Tensor:
        logits = x @ params.view(CLASSES, INPUTS).T
        return torch.nn.functional.cross_entropy(logits, y)

    hessian = torch.autograd.functional.hessian(mean_loss, head.initial)
    fused = fused_pass(head, head.initial, directions, x, y)
    torch.testing.assert_close(fused.hessian_product, directions @ hessian)


def test_one_direction_equals_the_first_of_several(head, sample, directions):
    x, y = sample
    several = fused_pass(head, head.initial, directions, x, y)
    alone = fused_pass(head, head.initial, directions[0], x, y)
    torch.testing.assert_close(alone.products, several.products[:, 0])
    torch.testing.assert_close(alone.hessian_product, several.hessian_product[0])
    torch.testing.assert_close(alone.logit_changes, several.logit_changes[:, 0])


def test_group_gradients_are_sums_over_their_images(head, by_autograd, sample):
    x, y = sample
    groups = torch.arange(COUNT) % 5
    found = closed.group_gradients(head, head.initial, x, y, groups, 5)
    for group in range(5):
        mine = groups == group
        mean = mean_gradient_of(by_autograd, head.initial, x[mine], y[mine])
        torch.testing.assert_close(found[group], mean * mine.sum())


@pytest.mark.parametrize("settings", UPDATES.values(), ids=UPDATES)
def test_influence_equals_the_finite_difference_of_leaving_each_image_out(head, sample, settings):
    x, y = sample
    recipe = a_recipe(**({"learning_rate": 0.05} | settings))
    predicted = influences(head, recipe, head.initial, x, y)
    step = 1e-5
    measured = np.empty(COUNT)
    for image in range(COUNT):
        ends = []
        for sign in (1, -1):
            weights = torch.ones(COUNT, dtype=torch.float64)
            weights[image] -= sign * step
            ends.append(harm(head, run(head, recipe, head.initial, x, y, weights)[0], x, y))
        measured[image] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(predicted, measured, rtol=1e-5, atol=1e-9)
