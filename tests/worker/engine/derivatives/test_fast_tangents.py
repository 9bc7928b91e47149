"""Closed-form tangents against torch's own, in float64."""

import pytest
import torch
from torch import nn

from worker.engine.derivatives.fast_tangents import FastTangents


def second_derivatives(module, x, direction, x_along, within):
    """Return products (B,), and gradients of their mean by parameters and x."""
    params = dict(module.named_parameters())

    def mean_product(params, x):
        def losses(params, x):
            return torch.func.functional_call(module, params, (x,)).flatten(1).cos().sum(1)

        _, products = torch.func.jvp(losses, (params, x), (direction, x_along))
        return products.mean(), products

    if not within:
        (by_params, by_x), products = torch.func.grad(mean_product, argnums=(0, 1), has_aux=True)(
            params, x
        )
    else:
        with FastTangents():
            (by_params, by_x), products = torch.func.grad(
                mean_product, argnums=(0, 1), has_aux=True
            )(params, x)
    return [products, by_x, *by_params.values()]


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(
    "more",
    [
        [],
        [nn.MaxPool2d(2)],
        [nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU()],
        [nn.Conv2d(8, 4, 3), nn.Tanh(), nn.GroupNorm(2, 4)],
    ],
    ids=["alone", "pooled", "pooled with overlap", "twice"],
)
def test_normalising_and_pooling_along_a_direction_are_torchs_own(groups, more):
    generator = torch.Generator().manual_seed(groups)
    module = (
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.GroupNorm(groups, 8), *more)
        .double()
        .requires_grad_(False)
    )
    x, x_along = (
        torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
    direction = {
        name: torch.randn(p.shape, dtype=torch.float64, generator=generator)
        for name, p in module.named_parameters()
    }
    ours = second_derivatives(module, x, direction, x_along, within=True)
    torchs = second_derivatives(module, x, direction, x_along, within=False)
    for mine, theirs in zip(ours, torchs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_normalising_without_scale_and_shift_is_left_to_torch():
    module = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8, affine=False))
        .double()
        .requires_grad_(False)
    )
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    direction = {name: torch.ones_like(p) for name, p in module.named_parameters()}
    ours = second_derivatives(module, x, direction, torch.ones_like(x), within=True)
    for mine, theirs in zip(
        ours,
        second_derivatives(module, x, direction, torch.ones_like(x), within=False),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
