"""Optimizers as pure update functions (docs/method.md, section 2).

θ', s' = step(θ, s, g, η), with θ, g and each tensor of s (P,).
"""

from collections.abc import Callable

import torch

from worker.engine.recipe import Recipe

State = dict[str, torch.Tensor]
Step = Callable[[torch.Tensor, State, torch.Tensor, float], tuple[torch.Tensor, State]]

# Adam's constants (Kingma & Ba 2015).
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def _sgd(recipe: Recipe) -> Step:
    def step(
        params: torch.Tensor, state: State, gradient: torch.Tensor, rate: float
    ) -> tuple[torch.Tensor, State]:
        g = gradient + recipe.weight_decay * params if recipe.weight_decay else gradient
        if not recipe.momentum:
            return params - rate * g, {}
        # b ← μ b + g ;  θ ← θ − η b   (Nesterov: θ ← θ − η (g + μ b))
        buffer = recipe.momentum * state["momentum"] + g
        direction = g + recipe.momentum * buffer if recipe.nesterov else buffer
        return params - rate * direction, {"momentum": buffer}

    return step


def _adam(recipe: Recipe, *, decoupled: bool) -> Step:
    def step(
        params: torch.Tensor, state: State, gradient: torch.Tensor, rate: float
    ) -> tuple[torch.Tensor, State]:
        g = (
            gradient
            if decoupled or not recipe.weight_decay
            else gradient + recipe.weight_decay * params
        )
        count = state["count"] + 1
        first = _BETA1 * state["first"] + (1 - _BETA1) * g
        second = _BETA2 * state["second"] + (1 - _BETA2) * g * g
        unbiased_first = first / (1 - _BETA1**count)
        unbiased_second = second / (1 - _BETA2**count)
        # ε inside the root keeps the derivative finite at 0.
        updated = params - rate * unbiased_first / (unbiased_second + _EPSILON**2).sqrt()
        if decoupled and recipe.weight_decay:
            updated = updated - rate * recipe.weight_decay * params
        return updated, {"count": count, "first": first, "second": second}

    return step


def optimizer(recipe: Recipe) -> Step:
    if recipe.optimizer == "sgd":
        return _sgd(recipe)
    return _adam(recipe, decoupled=recipe.optimizer == "adamw")


def initial_state(recipe: Recipe, params: torch.Tensor) -> State:
    if recipe.optimizer == "sgd":
        return {"momentum": torch.zeros_like(params)} if recipe.momentum else {}
    return {
        "count": torch.zeros((), dtype=params.dtype, device=params.device),
        "first": torch.zeros_like(params),
        "second": torch.zeros_like(params),
    }


def mask_unmoved_weights(state: State, change: torch.Tensor) -> torch.Tensor:
    """Zero a gradient's change (P,) at weights that no image has moved.

    There Adam's derivative is −η/ε, but any gradient moves the weight by η. Only for changes
    that no step of the run contained.
    """
    return change if "second" not in state else change.masked_fill(state["second"] == 0, 0)


def step_vjp(
    step: Step,
    params: torch.Tensor,
    state: State,
    gradient: torch.Tensor,
    rate: float,
    adjoint: torch.Tensor,
    state_adjoint: State,
) -> tuple[torch.Tensor, State, torch.Tensor]:
    """Carry adjoints back through one update.

    Args:
        params, state, gradient, rate: θ, s, g and η; g is fixed (the fused pass adds H v).
        adjoint, state_adjoint: (a, b), by θ' and s'.

    Returns:
        (ā, b̄, v), by θ, s and g.
    """
    # torch types it as if it returned auxiliary output.
    _, pull_back = torch.func.vjp(  # type: ignore[misc]  # see above
        lambda p, s, g: step(p, s, g, rate), params, state, gradient
    )
    carried: tuple[torch.Tensor, State, torch.Tensor] = pull_back((adjoint, state_adjoint))
    return carried


def step_vjp_each(
    step: Step,
    params: torch.Tensor,
    state: State,
    gradient: torch.Tensor,
    rate: float,
    adjoints: torch.Tensor,
    state_adjoints: State,
) -> tuple[torch.Tensor, State, torch.Tensor]:
    """Carry K adjoints back at once: `step_vjp` with (K, P), and (K, …) for each of a state."""
    _, pull_back = torch.func.vjp(  # type: ignore[misc]  # see step_vjp
        lambda p, s, g: step(p, s, g, rate), params, state, gradient
    )
    carried: tuple[torch.Tensor, State, torch.Tensor] = torch.func.vmap(pull_back)(
        (adjoints, state_adjoints)
    )
    return carried


def step_jvp(
    step: Step,
    params: torch.Tensor,
    state: State,
    gradient: torch.Tensor,
    rate: float,
    params_tangent: torch.Tensor,
    state_tangent: State,
    gradient_tangent: torch.Tensor,
) -> tuple[torch.Tensor, State]:
    """Carry tangents forward through one update.

    Args:
        params, state, gradient, rate: θ, s, g and η.
        params_tangent, state_tangent, gradient_tangent: δθ, δs and δg.

    Returns:
        (δθ', δs').
    """
    primals, tangents = (params, state, gradient), (params_tangent, state_tangent, gradient_tangent)
    _, carried = torch.func.jvp(  # type: ignore[misc]  # see step_vjp
        lambda p, s, g: step(p, s, g, rate), primals, tangents
    )
    return carried
