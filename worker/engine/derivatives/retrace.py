"""SGD-influence by the adjoint recursion (docs/method.md, section 2)."""

from collections.abc import Callable, Iterable

import torch

from worker.engine.derivatives.passes import TrainingStep, fused_pass_in_parts, mean_gradient
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State, Step, step_vjp

# δ in u − δ η H u, fixed or by step.
Damping = float | Callable[["TrainingStep"], float]


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
    """Carry the adjoint back through training steps, summing influence.

    Args:
        steps: last first.
        adjoint, state_adjoint: (a, b) after the last step, a (P,).
        influence: (N,) float64, added to in place.
        damping: δ; 1 is exact.
        after_step: called with each step and its v.

    Returns:
        (a, b) before the first step.

    Source: Hara et al. 2019, algorithm 1, for any optimizer.
    """
    # On the device: no step waits for a copy.
    total = influence.to(adjoint.device)
    for step in steps:
        gradient = torch.zeros_like(adjoint)
        if update_needs_gradient(step.state):
            gradient = mean_gradient(network, step)
        # (ā, b̄, v) at a fixed gradient
        carried, state_adjoint, direction = step_vjp(
            update, step.params, step.state, gradient, step.learning_rate, adjoint, state_adjoint
        )
        if after_step is not None:
            after_step(step, direction)
        inner, hessian_product = fused_pass_in_parts(network, step, direction)
        # I_i −= (1/|S_t|) ⟨v, ∇ℓ(z_i; θ_t)⟩
        total.index_add_(0, step.positions, inner.to(total.dtype), alpha=-1.0 / len(step.y))
        # a_t = ā + H_t v
        adjoint = carried + (damping(step) if callable(damping) else damping) * hessian_product
        # Frees memory for the next.
        del step
    influence.copy_(total)
    return adjoint, state_adjoint


def update_needs_gradient(state: State) -> bool:
    """Return True if the VJP depends on the gradient (Adam)."""
    return "second" in state
