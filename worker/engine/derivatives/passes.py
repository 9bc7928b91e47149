"""Fused passes and gradients of one training step (docs/method.md, section 3)."""

from dataclasses import dataclass

import torch

from worker.engine.derivatives.fast_tangents import Along
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State


@dataclass(frozen=True)
class TrainingStep:
    """One step t as it happened: what it saw, and from where it started."""

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
    """All inner products ⟨v, ∇ℓ(z_i; θ)⟩ (B,) and the Hessian–vector product H v (P,) of the batch's mean loss, from one graph.

    params: θ (P,). direction: v (P,). x, y: the batch. weights: 0 for images that are not in the run (the divisor is kept).
    """

    def mean_product(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # s = ∂/∂ε ℓ(batch; θ + ε v)
        _, products = torch.func.jvp(lambda p: network.losses(p, x, y), (theta,), (direction,))  # type: ignore[misc]  # see step_vjp
        counted = products if weights is None else products * weights
        return counted.mean(), products  # (), (B,)

    # H v = ∇_θ mean(s)
    with Along():
        hessian_product, products = torch.func.grad(mean_product, has_aux=True)(params)
    return products.detach(), hessian_product.detach()


def fused_pass_in_parts(
    network: Network, step: TrainingStep, direction: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The fused pass of a step's batch, in as few parts of nearly one size as the memory of a pass allows: ⟨v, ∇ℓ(z_i; θ_t)⟩ (B,) and H_t v (P,)."""
    count = len(step.y)
    parts = -(-count // network.images_a_pass(tuple(step.x.shape[1:]), "fused"))
    if parts == 1:
        return fused_pass(network, step.params, direction, step.x, step.y, step.weights)
    inner, hessian_product = [], torch.zeros_like(direction)
    for part in torch.arange(count).tensor_split(parts):
        here = slice(int(part[0]), int(part[-1]) + 1)
        weights = None if step.weights is None else step.weights[here]
        products_here, mean_here = fused_pass(
            network, step.params, direction, step.x[here], step.y[here], weights
        )
        inner.append(products_here)
        hessian_product += mean_here * (len(part) / count)
    return torch.cat(inner), hessian_product


def products(
    network: Network,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """⟨v, ∇ℓ(z_i; θ)⟩ for each image, (B,): one forward pass, no per-image gradients."""
    with torch.no_grad(), Along():
        _, result = torch.func.jvp(lambda p: network.losses(p, x, y), (params,), (direction,))  # type: ignore[misc]  # see step_vjp
    return result


def mean_gradient(network: Network, step: TrainingStep) -> torch.Tensor:
    """g_t = ∇ (1/|S_t|) Σ w_i ℓ(z_i; θ_t), (P,)."""
    return mean_gradient_of(network, step.params, step.x, step.y, step.weights)


def mean_gradient_of(
    network: Network,
    params: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The gradient of the batch's mean loss, (P,)."""

    def mean_loss(theta: torch.Tensor) -> torch.Tensor:
        losses = network.losses(theta, x, y)
        return (losses if weights is None else losses * weights).mean()

    gradient: torch.Tensor = torch.func.grad(mean_loss)(params)
    return gradient
