"""Optimizers: one pure update function each (influence.md, section 2, "Any optimizer").

θ' , s' = step(θ, s, g): parameters (P,), state (a dict of (P,) tensors), gradient (P,). The retracing needs only the vector–Jacobian product
of this function, which torch derives, so an optimizer costs one function here and nothing elsewhere.
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
        # ε inside the root keeps the derivative finite where the second moment is exactly 0 (an unused weight).
        moved = params - rate * unbiased_first / (unbiased_second + _EPSILON**2).sqrt()
        if decoupled and recipe.weight_decay:
            moved = moved - rate * recipe.weight_decay * params
        return moved, {"count": count, "first": first, "second": second}

    return step


def optimizer(recipe: Recipe) -> Step:
    """The update function of a recipe."""
    if recipe.optimizer == "sgd":
        return _sgd(recipe)
    return _adam(recipe, decoupled=recipe.optimizer == "adamw")


def initial_state(recipe: Recipe, params: torch.Tensor) -> State:
    """s_0: zeros, with the parameters' shape."""
    if recipe.optimizer == "sgd":
        return {"momentum": torch.zeros_like(params)} if recipe.momentum else {}
    return {
        "count": torch.zeros((), dtype=params.dtype, device=params.device),
        "first": torch.zeros_like(params),
        "second": torch.zeros_like(params),
    }


def felt(state: State, change: torch.Tensor) -> torch.Tensor:
    """A gradient's change (P,), or its adjoint, without the weights that no image has moved yet; for what no step of the run saw.

    Adam divides by what it has seen of a weight's gradients: where that is nothing, the derivative is −η/ε, though a gradient there, however
    small or large, would move the weight by η.
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
    """(ā, b̄, v): the adjoints (a, b) of (θ', s') carried back to θ, s and g through one update.

    The gradient g is held fixed as an input of its own: its dependence on θ is the Hessian term, which the fused pass adds.
    """
    # torch types vjp and jvp as if they always returned auxiliary output.
    _, pull_back = torch.func.vjp(lambda p, s, g: step(p, s, g, rate), params, state, gradient)  # type: ignore[misc]  # as said above
    carried: tuple[torch.Tensor, State, torch.Tensor] = pull_back((adjoint, state_adjoint))
    return carried


def step_jvp(
    step: Step,
    params: torch.Tensor,
    state: State,
    gradient: torch.Tensor,
    rate: float,
    moved: torch.Tensor,
    moved_state: State,
    bent: torch.Tensor,
) -> tuple[torch.Tensor, State]:
    """(δθ', δs'): small changes δθ (`moved`), δs (`moved_state`) and δg (`bent`) carried forward through one update, (P,) each."""
    primals, tangents = (params, state, gradient), (moved, moved_state, bent)
    _, carried = torch.func.jvp(lambda p, s, g: step(p, s, g, rate), primals, tangents)  # type: ignore[misc]  # see step_vjp
    return carried
