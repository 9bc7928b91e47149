"""Influence at the optimum, with the Gauss–Newton matrix (Koh and Liang 2017)."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from worker.engine.networks.registry import Network
from worker.engine.scores import trust
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import compute_all_products
from worker.engine.sweep import iterate_parts
from worker.engine.training.runner import Runner

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Solution:
    """x with A x ≈ b, and its relative residual."""

    x: torch.Tensor
    residual: float
    iterations: int


def influence_function(request: ScoringRequest) -> ScoresAndReport:
    """Compute I_i = +⟨∇ℓ(z_i; θ_T), (G + λ)^-1 u⟩ / N on unaugmented images, (N,).

    G is the Gauss–Newton matrix of the mean training loss plus weight decay, λ is `ridge`, u the
    gradient of the validation loss. Removal moves the optimum by +(G + λ)^-1 ∇ℓ_i / N.
    """
    run, options = request.replay.run, request.options
    params = request.replay.final_params()
    gradient = trust.validation_gradient(run.network, run.recipe, params, request.validation)
    # AdamW's decay is no part of the loss.
    diagonal = options["ridge"] + (
        run.recipe.weight_decay if run.recipe.optimizer != "adamw" else 0.0
    )
    limit = int(options["iterations"])

    iterations = itertools.count()

    def product(v: torch.Tensor) -> torch.Tensor:
        heartbeat = functools.partial(request.progress, next(iterations), limit)
        return gauss_newton(run, params, v, heartbeat) + diagonal * v

    solution = conjugate_gradients(product, gradient, options["tolerance"], limit)
    values = compute_all_products(
        run, params, solution.x, heartbeat=lambda: request.progress(solution.iterations, limit)
    ) / len(run.images)
    request.progress(limit, limit)
    converged = solution.residual <= options["tolerance"]
    report = {
        "residual": solution.residual,
        "iterations": solution.iterations,
        "converged": converged,
        "ridge": options["ridge"],
    }
    return ScoresAndReport(values, report)


def conjugate_gradients(
    product: Product, b: torch.Tensor, tolerance: float, limit: int
) -> Solution:
    """Solve A x = b for positive definite A (Hestenes and Stiefel 1952).

    Args:
        product: v ↦ A v.
        b: (P,).
        tolerance: relative residual.
        limit: of iterations.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction = residual.clone()
    squared = start = _dot(residual, residual)
    done = 0
    while done < limit and squared > tolerance**2 * start:
        product_p = product(direction)
        curvature = _dot(direction, product_p)
        if curvature <= 0:
            break  # rounding dominates
        # α = ‖r‖² / ⟨p, A p⟩ ;  x ← x + α p ;  r ← r − α A p ;  p ← r + (‖r‖²_new / ‖r‖²) p
        x = x + (squared / curvature) * direction
        residual = residual - (squared / curvature) * product_p
        previous, squared = squared, _dot(residual, residual)
        direction = residual + (squared / previous) * direction
        done += 1
    return Solution(x, (squared / start) ** 0.5 if start else 0.0, done)


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum())


def gauss_newton(
    run: Runner, params: torch.Tensor, v: torch.Tensor, heartbeat: Callable[[], None] | None = None
) -> torch.Tensor:
    """Compute G v of the mean training loss, (P,).

    Args:
        params: θ, (P,).
        v: (P,).
        heartbeat: called before each part; may raise to stop.
    """
    total = torch.zeros_like(v)
    for _, x, _ in iterate_parts(run.network, run.recipe, params, run.images, "fused"):
        if heartbeat is not None:
            heartbeat()
        total += gauss_newton_sum(run.network, params, v, x)
    return total / len(run.images)


def gauss_newton_sum(
    network: Network, params: torch.Tensor, v: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Compute Σ_i J_iᵀ (diag p_i − p_i p_iᵀ) J_i v over a batch, (P,).

    J_i is the Jacobian of image i's logits, p_i its probabilities.

    Args:
        params: θ, (P,).
        v: (P,).
        x: (B, C, H, W).
    """

    def pulled(theta: torch.Tensor) -> torch.Tensor:
        logits, tangent = torch.func.jvp(  # type: ignore[misc]  # see step_vjp
            lambda p: network.logits(p, x), (theta,), (v,)
        )
        probabilities = logits.softmax(1)
        # (diag p − p pᵀ) J v: (B, classes)
        curved = probabilities * (tangent - (probabilities * tangent).sum(1, keepdim=True))
        return (curved.detach() * logits).sum()

    gradient: torch.Tensor = torch.func.grad(pulled)(params)
    return gradient


def _count_passes(sizes: Sizes) -> ImagePasses:
    return ImagePasses(
        gradient=sizes.validation + count_from_seed(sizes),
        curvature=sizes.options["iterations"] * sizes.count,
        directional=sizes.count,
    )


METHOD = attach(
    "influence_function",
    influence_function,
    _count_passes,
    options={"ridge": 0.1, "iterations": 50, "tolerance": 0.01},
    below={"tolerance": 1.0},
)
