"""The adjoint recursion, run backwards through a training, and its fused pass (influence.md, sections 2 and 3)."""

from collections.abc import Callable, Iterable

import torch

from worker.engine.derivatives.passes import TrainingStep, fused_pass_in_parts, mean_gradient
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State, Step, step_vjp

# δ in u − δ η H u: one number, or one for each step.
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
        # Not to be held while the next is made.
        del step
    influence.copy_(total)
    return adjoint, state_adjoint


def update_needs_gradient(state: State) -> bool:
    """Whether the update is non-linear in its gradient (Adam): only then the VJP depends on its value."""
    return "second" in state
