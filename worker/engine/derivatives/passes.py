"""Fused passes and gradients of a step (docs/method.md, section 3)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional

from worker.engine.derivatives import head
from worker.engine.derivatives.fast_tangents import FastTangents
from worker.engine.networks.linear_head import LinearHead
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


class Fused(NamedTuple):
    """Results of a fused pass; with K directions, K follows the images' axis.

    Args:
        products: ⟨v, ∇ℓ(z_i; θ)⟩, (B,) or (B, K).
        hessian_product: H v of the mean loss, (P,) or (K, P).
        logit_changes: the logits' derivative along v, (B, C) or (B, K, C).
    """

    products: torch.Tensor
    hessian_product: torch.Tensor
    logit_changes: torch.Tensor


def fused_pass(
    network: Network,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> Fused:
    """Compute inner products and the Hessian–vector product in one graph.

    Args:
        params: θ, (P,).
        direction: v, (P,), or K of them, (K, P): a pass each, but for a linear head.
        x, y: (B, C, H, W) and (B,).
        weights: (B,), 0 for images left out (the divisor stays).
    """
    if isinstance(network, LinearHead):
        found = head.fused_pass(network, params, direction.view(-1, network.size), x, y, weights)
        if direction.dim() == 2:
            return Fused(*found)
        return Fused(found[0][:, 0], found[1][0], found[2][:, 0])
    if direction.dim() == 2:
        passes = [fused_pass(network, params, one, x, y, weights) for one in direction]
        return Fused(
            torch.stack([one.products for one in passes], 1),
            torch.stack([one.hessian_product for one in passes]),
            torch.stack([one.logit_changes for one in passes], 1),
        )

    def losses_and_logits(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network.logits(theta, x)
        return functional.cross_entropy(logits, y, reduction="none"), logits

    def mean_product(
        theta: torch.Tensor,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        # s = ∂/∂ε ℓ(batch; θ + ε v)
        _, (products, changes) = torch.func.jvp(  # type: ignore[misc]  # see step_vjp
            losses_and_logits, (theta,), (direction,)
        )
        counted = products if weights is None else products * weights
        return counted.mean(), (products, changes)  # (), (B,), (B, C)

    # H v = ∇_θ mean(s)
    with FastTangents():
        hessian_product, (products, changes) = torch.func.grad(mean_product, has_aux=True)(params)
    return Fused(products.detach(), hessian_product.detach(), changes.detach())


def fused_pass_in_parts(network: Network, step: TrainingStep, direction: torch.Tensor) -> Fused:
    """Run `fused_pass` on a step, in as few parts as memory allows."""
    count = len(step.y)
    parts = -(-count // network.images_per_pass(tuple(step.x.shape[1:]), "fused"))
    if parts == 1:
        return fused_pass(network, step.params, direction, step.x, step.y, step.weights)
    passes, hessian_product = [], torch.zeros_like(direction)
    for part in torch.arange(count).tensor_split(parts):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        weights = None if step.weights is None else step.weights[rows]
        done = fused_pass(network, step.params, direction, step.x[rows], step.y[rows], weights)
        passes.append(done)
        hessian_product += done.hessian_product * (len(part) / count)
    return Fused(
        torch.cat([done.products for done in passes]),
        hessian_product,
        torch.cat([done.logit_changes for done in passes]),
    )


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
    if isinstance(network, LinearHead):
        return head.products(network, params, direction, x, y)
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
    if isinstance(network, LinearHead):
        return head.step(network, params, x, y, weights)[0]

    def mean_loss(theta: torch.Tensor) -> torch.Tensor:
        losses = network.losses(theta, x, y)
        return (losses if weights is None else losses * weights).mean()

    gradient: torch.Tensor = torch.func.grad(mean_loss)(params)
    return gradient
