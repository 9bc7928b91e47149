"""The adjoint recursion, run backwards through a training, and its fused pass (influence.md, sections 2 and 3)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from worker.engine.derivatives.fast_tangents import Along
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State, Step, step_vjp

# δ in u − δ η H u: one number, or one for each step.
Damping = float | Callable[["TrainingStep"], float]


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
    network: Network, params: torch.Tensor, direction: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None
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


def fused_pass_in_parts(network: Network, step: TrainingStep, direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The fused pass of a step's batch, in as few parts of nearly one size as the memory of a pass allows: ⟨v, ∇ℓ(z_i; θ_t)⟩ (B,) and H_t v (P,)."""
    count = len(step.y)
    parts = -(-count // network.images_a_pass(tuple(step.x.shape[1:]), "fused"))
    if parts == 1:
        return fused_pass(network, step.params, direction, step.x, step.y, step.weights)
    inner, hessian_product = [], torch.zeros_like(direction)
    for part in torch.arange(count).tensor_split(parts):
        here = slice(int(part[0]), int(part[-1]) + 1)
        weights = None if step.weights is None else step.weights[here]
        products_here, mean_here = fused_pass(network, step.params, direction, step.x[here], step.y[here], weights)
        inner.append(products_here)
        hessian_product += mean_here * (len(part) / count)
    return torch.cat(inner), hessian_product


def products(network: Network, params: torch.Tensor, direction: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """⟨v, ∇ℓ(z_i; θ)⟩ for each image, (B,): one forward pass, no per-image gradients."""
    with torch.no_grad(), Along():
        _, result = torch.func.jvp(lambda p: network.losses(p, x, y), (params,), (direction,))  # type: ignore[misc]  # see step_vjp
    return result


def retrace(
    network: Network,
    update: Step,
    steps: Iterable[TrainingStep],
    adjoint: torch.Tensor,
    state_adjoint: State,
    influence: torch.Tensor,
    *,
    damping: Damping = 1.0,
    after_step: Callable[[TrainingStep, torch.Tensor], None] | None = None,
) -> tuple[torch.Tensor, State]:
    """Carry the adjoint back through `steps`, last first, adding each image's influence to `influence` (N,) float64 in place.

    adjoint: a = u_{t+1} (P,), with respect to θ after the first of `steps`. state_adjoint: b, with respect to the optimizer's state.
    damping: δ in u − δ η H u; 1 is exact. after_step(step, v): called with the direction v of each step.
    Returns (a, b) before the earliest step. Source: Hara et al. 2019, algorithm 1, for any optimizer.
    """
    # On the adjoint's device, so that no step waits for a copy.
    total = influence.to(adjoint.device)
    for step in steps:
        gradient = torch.zeros_like(adjoint)
        if update_needs_gradient(step.state):
            gradient = mean_gradient(network, step)
        # (ā, b̄, v): through the update, the gradient held fixed
        carried, state_adjoint, direction = step_vjp(update, step.params, step.state, gradient, step.learning_rate, adjoint, state_adjoint)
        if after_step is not None:
            after_step(step, direction)
        inner, hessian_product = fused_pass_in_parts(network, step, direction)
        # I_i −= (1/|S_t|) ⟨v, ∇ℓ(z_i; θ_t)⟩
        total.index_add_(0, step.positions, inner.to(total.dtype), alpha=-1.0 / len(step.y))
        # a_t = ā + H_t v
        adjoint = carried + (damping(step) if callable(damping) else damping) * hessian_product
        # Not to be held while the next is made.
        del step
    influence.copy_(total)
    return adjoint, state_adjoint


def update_needs_gradient(state: State) -> bool:
    """Whether the update is non-linear in its gradient (Adam): only then the VJP depends on its value."""
    return "second" in state


def mean_gradient(network: Network, step: TrainingStep) -> torch.Tensor:
    """g_t = ∇ (1/|S_t|) Σ w_i ℓ(z_i; θ_t), (P,)."""
    return mean_gradient_of(network, step.params, step.x, step.y, step.weights)


def mean_gradient_of(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """The gradient of the batch's mean loss, (P,)."""

    def mean_loss(theta: torch.Tensor) -> torch.Tensor:
        losses = network.losses(theta, x, y)
        return (losses if weights is None else losses * weights).mean()

    gradient: torch.Tensor = torch.func.grad(mean_loss)(params)
    return gradient
