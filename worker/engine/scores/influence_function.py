"""Influence at the optimum (Koh and Liang 2017), with the Gauss–Newton matrix, which is never negative, in place of the Hessian."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from worker.engine.networks.registry import Network
from worker.engine.scores import trust
from worker.engine.scores.cost import Looks, Sizes, from_seed
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import products_of_all
from worker.engine.sweep import walk
from worker.engine.training.runner import Runner

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Solution:
    """x with A x ≈ b. residual: ‖b − A x‖ / ‖b‖."""

    x: torch.Tensor
    residual: float
    iterations: int


def influence_function(asked: Asked) -> Scored:
    """I_i = +⟨∇ℓ(z_i; θ_T), (G + λ)^-1 u⟩ / N with the training images as they are, unaugmented, (N,).

    G: the Gauss–Newton matrix of the mean training loss, with the recipe's weight decay on its diagonal. λ: `ridge`. u: the gradient of
    the validation loss. An image that leaves moves the optimum by +(G + λ)^-1 ∇ℓ_i / N, hence the sign.
    """
    run, options = asked.replay.run, asked.options
    params = asked.replay.final_params()
    gradient = trust.validation_gradient(run.network, run.recipe, params, asked.validation)
    # AdamW's decay is not part of the loss whose optimum this is.
    diagonal = options["ridge"] + (
        run.recipe.weight_decay if run.recipe.optimizer != "adamw" else 0.0
    )
    limit = int(options["iterations"])

    iterations = itertools.count()

    def product(v: torch.Tensor) -> torch.Tensor:
        beat = functools.partial(asked.progress, next(iterations), limit)
        return gauss_newton(run, params, v, beat) + diagonal * v

    solution = conjugate_gradients(product, gradient, options["tolerance"], limit)
    values = products_of_all(
        run, params, solution.x, beat=lambda: asked.progress(solution.iterations, limit)
    ) / len(run.images)
    asked.progress(limit, limit)
    converged = solution.residual <= options["tolerance"]
    return values, {
        "residual": solution.residual,
        "iterations": solution.iterations,
        "converged": converged,
        "ridge": options["ridge"],
    }


def conjugate_gradients(
    product: Product, b: torch.Tensor, tolerance: float, limit: int
) -> Solution:
    """Solve A x = b for a positive definite A given by its products, (P,), from x = 0 (Hestenes and Stiefel 1952).

    Stops at ‖b − A x‖ ≤ tolerance ‖b‖ or after `limit` products. Inner products are summed in float64.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction = residual.clone()
    squared = start = _dot(residual, residual)
    done = 0
    while done < limit and squared > tolerance**2 * start:
        moved = product(direction)
        curvature = _dot(direction, moved)
        if curvature <= 0:
            break  # rounding has used up what the matrix had: x is as good as it gets
        # α = ‖r‖² / ⟨p, A p⟩ ;  x ← x + α p ;  r ← r − α A p ;  p ← r + (‖r‖²_new / ‖r‖²) p
        x = x + (squared / curvature) * direction
        residual = residual - (squared / curvature) * moved
        before, squared = squared, _dot(residual, residual)
        direction = residual + (squared / before) * direction
        done += 1
    return Solution(x, (squared / start) ** 0.5 if start else 0.0, done)


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum())


def gauss_newton(
    run: Runner, params: torch.Tensor, v: torch.Tensor, beat: Callable[[], None] | None = None
) -> torch.Tensor:
    """G v of the mean training loss over all N images, (P,), in parts; beat: called before each, may raise to stop."""
    total = torch.zeros_like(v)
    for _, x, _ in walk(run.network, run.recipe, params, run.images, "fused"):
        if beat is not None:
            beat()
        total += gauss_newton_sum(run.network, params, v, x)
    return total / len(run.images)


def gauss_newton_sum(
    network: Network, params: torch.Tensor, v: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Σ_i J_iᵀ (diag p_i − p_i p_iᵀ) J_i v over a batch, (P,): J_i the Jacobian of image i's logits, p_i its probabilities."""

    def pulled(theta: torch.Tensor) -> torch.Tensor:
        logits, tangent = torch.func.jvp(lambda p: network.logits(p, x), (theta,), (v,))  # type: ignore[misc]  # see step_vjp
        probabilities = logits.softmax(1)
        # the Hessian of cross entropy in the logits, times J v: (B, classes)
        curved = probabilities * (tangent - (probabilities * tangent).sum(1, keepdim=True))
        return (curved.detach() * logits).sum()

    gradient: torch.Tensor = torch.func.grad(pulled)(params)
    return gradient


def _looks(sizes: Sizes) -> Looks:
    """At most: fewer iterations where the residual is small enough sooner."""
    return Looks(
        gradient=sizes.validation + from_seed(sizes),
        curvature=sizes.options["iterations"] * sizes.count,
        directional=sizes.count,
    )


METHOD = attach(
    "influence_function",
    influence_function,
    _looks,
    options={"ridge": 0.1, "iterations": 50, "tolerance": 0.01},
    below={"tolerance": 1.0},
)
