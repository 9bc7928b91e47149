"""Fused passes and gradients of a step (docs/method.md, section 3)."""

from dataclasses import dataclass

import torch

from worker.engine.derivatives.fast_tangents import FastTangents
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State


@dataclass(frozen=True)
class TrainingStep:
    """Batch and start of training step t."""

    params: torch.Tensor  # θ_t, (P,)
    state: State  # s_t
    x: torch.Tensor  # (B, C, H, W)
    y: torch.Tensor  # (B,)
    positions: torch.Tensor  # S_t, (B,)
    learning_rate: float  # η_t
    weights: torch.Tensor | None = None  # (B,), 0 for images left out


def fused_pass(
    network: Network,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute inner products and the Hessian–vector product in one graph.

    Args:
        params, direction: θ and v, (P,).
        x, y: (B, C, H, W) and (B,).
        weights: (B,), 0 for images left out (the divisor stays).

    Returns:
        ⟨v, ∇ℓ(z_i; θ)⟩, (B,), and H v of the mean loss, (P,).
    """

    def mean_product(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # s = ∂/∂ε ℓ(batch; θ + ε v)
        _, products = torch.func.jvp(  # type: ignore[misc]  # see step_vjp
            lambda p: network.losses(p, x, y), (theta,), (direction,)
        )
        counted = products if weights is None else products * weights
        return counted.mean(), products  # (), (B,)

    # H v = ∇_θ mean(s)
    with FastTangents():
        hessian_product, products = torch.func.grad(mean_product, has_aux=True)(params)
    return products.detach(), hessian_product.detach()


def fused_pass_in_parts(
    network: Network, step: TrainingStep, direction: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `fused_pass` on a step, in as few parts as memory allows."""
    count = len(step.y)
    parts = -(-count // network.images_per_pass(tuple(step.x.shape[1:]), "fused"))
    if parts == 1:
        return fused_pass(network, step.params, direction, step.x, step.y, step.weights)
    inner, hessian_product = [], torch.zeros_like(direction)
    for part in torch.arange(count).tensor_split(parts):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        weights = None if step.weights is None else step.weights[rows]
        part_products, part_hessian_product = fused_pass(
            network, step.params, direction, step.x[rows], step.y[rows], weights
        )
        inner.append(part_products)
        hessian_product += part_hessian_product * (len(part) / count)
    return torch.cat(inner), hessian_product


def products(
    network: Network,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """Compute ⟨v, ∇ℓ(z_i; θ)⟩, (B,), in one forward pass.

    Args:
        params, direction: θ and v, (P,).
        x, y: (B, C, H, W) and (B,).
    """
    with torch.no_grad(), FastTangents():
        _, result = torch.func.jvp(  # type: ignore[misc]  # see step_vjp
            lambda p: network.losses(p, x, y), (params,), (direction,)
        )
    return result


def mean_gradient(network: Network, step: TrainingStep) -> torch.Tensor:
    """Return g_t = ∇ (1/|S_t|) Σ w_i ℓ(z_i; θ_t), (P,)."""
    return mean_gradient_of(network, step.params, step.x, step.y, step.weights)


def mean_gradient_of(
    network: Network,
    params: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the gradient of a batch's mean loss, (P,).

    Args:
        params: θ, (P,).
        weights: (B,), 0 for images left out.
    """

    def mean_loss(theta: torch.Tensor) -> torch.Tensor:
        losses = network.losses(theta, x, y)
        return (losses if weights is None else losses * weights).mean()

    gradient: torch.Tensor = torch.func.grad(mean_loss)(params)
    return gradient
