"""Fused passes and gradients of one training step (docs/method.md, section 3)."""

from dataclasses import dataclass

import torch

from worker.engine.derivatives.fast_tangents import FastTangents
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State


@dataclass(frozen=True)
class TrainingStep:
    """A training step t: what it saw and where it started."""

    params: torch.Tensor  # θ_t, (P,)
    state: State  # s_t
    x: torch.Tensor  # (B, C, H, W)
    y: torch.Tensor  # (B,)
    positions: torch.Tensor  # S_t, (B,) positions in the image list
    learning_rate: float  # η_t
    weights: torch.Tensor | None = None  # (B,) 0 for images left out of the run


def fused_pass(
    network: Network,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute all inner products and the Hessian–vector product from one graph.

    Args:
        params: θ, (P,).
        direction: v, (P,).
        x, y: the batch, (B, C, H, W) and (B,).
        weights: (B,), 0 for images left out of the run (the divisor stays); None for all.

    Returns:
        ⟨v, ∇ℓ(z_i; θ)⟩, (B,), and H v of the batch's mean loss, (P,).
    """

    def mean_product(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # s = ∂/∂ε ℓ(batch; θ + ε v)
        _, products = torch.func.jvp(lambda p: network.losses(p, x, y), (theta,), (direction,))  # type: ignore[misc]  # see step_vjp
        counted = products if weights is None else products * weights
        return counted.mean(), products  # (), (B,)

    # H v = ∇_θ mean(s)
    with FastTangents():
        hessian_product, products = torch.func.grad(mean_product, has_aux=True)(params)
    return products.detach(), hessian_product.detach()


def fused_pass_in_parts(
    network: Network, step: TrainingStep, direction: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the fused pass of a step in as few equal parts as memory allows.

    Args:
        direction: v, (P,).

    Returns:
        ⟨v, ∇ℓ(z_i; θ_t)⟩, (B,), and H_t v, (P,).
    """
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
    """Compute inner products with all per-image gradients in one forward pass.

    Args:
        params: θ, (P,).
        direction: v, (P,).

    Returns:
        ⟨v, ∇ℓ(z_i; θ)⟩, (B,).
    """
    with torch.no_grad(), FastTangents():
        _, result = torch.func.jvp(lambda p: network.losses(p, x, y), (params,), (direction,))  # type: ignore[misc]  # see step_vjp
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
    """Gradient of a batch's mean loss.

    Args:
        params: θ, (P,).
        weights: (B,), 0 for images left out of the run; None for all.

    Returns:
        (P,).
    """

    def mean_loss(theta: torch.Tensor) -> torch.Tensor:
        losses = network.losses(theta, x, y)
        return (losses if weights is None else losses * weights).mean()

    gradient: torch.Tensor = torch.func.grad(mean_loss)(params)
    return gradient
