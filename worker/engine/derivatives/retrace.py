"""SGD-influence by the adjoint recursion (docs/method.md, section 2)."""

from collections.abc import Callable, Iterable

import torch

from worker.engine.derivatives.passes import TrainingStep, fused_pass_in_parts, mean_gradient
from worker.engine.networks.registry import Network
from worker.engine.optimizers import State, Step, step_vjp, step_vjp_each

# δ in u − δ η H u, fixed or by step.
Damping = float | Callable[["TrainingStep"], float]


class Relabelling:
    """Sums the change of the validation loss if an image had another label (section 12).

    R_i(c) −= (1/|S_t|) (dz_i[c] − dz_i[y_i]), dz_i the logits' derivative along v. Negative: the
    new label lowers the loss.

    Args:
        count, classes: N and C.
        shares: (K,) share of each adjoint in the validation loss; None for a single adjoint.
    """

    def __init__(
        self,
        count: int,
        classes: int,
        device: torch.device | str = "cpu",
        shares: torch.Tensor | None = None,
    ) -> None:
        self.values = torch.zeros(count, classes, device=device)
        self._shares = shares

    def add(self, step: TrainingStep, logit_changes: torch.Tensor) -> None:
        """Add a step. logit_changes: (B, C), or (B, K, C)."""
        if self._shares is not None:
            logit_changes = torch.einsum("bkc,k->bc", logit_changes, self._shares)
        differences = logit_changes.gather(1, step.y[:, None]) - logit_changes
        self.values.index_add_(
            0, step.positions, differences.to(self.values.dtype), alpha=1.0 / len(step.y)
        )


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
    relabelling: Relabelling | None = None,
) -> tuple[torch.Tensor, State]:
    """Carry the adjoint back through training steps, summing influence.

    K adjoints are carried together where `adjoint` and each tensor of `state_adjoint` have a first
    axis of K.

    Args:
        steps: last first.
        adjoint, state_adjoint: (a, b) after the last step, a (P,) or (K, P).
        influence: (N,) or (N, K) float64, added to in place.
        damping: δ; 1 is exact.
        after_step: called with each step and its v, (P,) or (K, P).
        relabelling: sums what another label would change, beside.

    Returns:
        (a, b) before the first step.

    Source: Hara et al. 2019, algorithm 1, for any optimizer.
    """
    # On the device: no step waits for a copy.
    total = influence.to(adjoint.device)
    carry_back = step_vjp if adjoint.dim() == 1 else step_vjp_each
    for step in steps:
        gradient = torch.zeros_like(step.params)
        if update_needs_gradient(step.state):
            gradient = mean_gradient(network, step)
        # (ā, b̄, v) at a fixed gradient
        carried, state_adjoint, direction = carry_back(
            update, step.params, step.state, gradient, step.learning_rate, adjoint, state_adjoint
        )
        if after_step is not None:
            after_step(step, direction)
        fused = fused_pass_in_parts(network, step, direction)
        # I_i −= (1/|S_t|) ⟨v, ∇ℓ(z_i; θ_t)⟩
        total.index_add_(
            0, step.positions, fused.products.to(total.dtype), alpha=-1.0 / len(step.y)
        )
        if relabelling is not None:
            relabelling.add(step, fused.logit_changes)
        # a_t = ā + H_t v
        adjoint = (
            carried + (damping(step) if callable(damping) else damping) * fused.hessian_product
        )
        # Frees memory for the next.
        del step, fused
    influence.copy_(total)
    return adjoint, state_adjoint


def update_needs_gradient(state: State) -> bool:
    """Return True if the VJP depends on the gradient (Adam)."""
    return "second" in state
