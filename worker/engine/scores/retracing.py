"""The retracing that several methods share."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from worker.engine.derivatives.passes import TrainingStep, products
from worker.engine.derivatives.retrace import Damping, retrace
from worker.engine.optimizers import initial_state
from worker.engine.scores import trust
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed, count_replayed
from worker.engine.scores.method import ScoresAndReport, ScoringRequest
from worker.engine.sweep import iterate_parts
from worker.engine.training.runner import Runner

AfterStep = Callable[[TrainingStep, torch.Tensor], None]


def replay_span(request: ScoringRequest) -> Iterator[TrainingStep]:
    """Yield the span's steps, last first."""
    for epoch in request.epochs:
        yield from request.replay.steps_backwards(epoch)


def retrace_span(
    request: ScoringRequest,
    steps: Iterator[TrainingStep],
    *,
    damping: Damping | None = None,
    after_step: AfterStep | None = None,
) -> ScoresAndReport:
    """Retrace the span from the validation gradient.

    Args:
        steps: last first.
        damping: the request's if None.
        after_step: called with each step and its v, (P,).

    Returns:
        Influence, (N,), and a report.
    """
    run = request.replay.run
    total = run.steps * len(request.epochs)
    influence = torch.zeros(len(run.images), dtype=torch.float64)
    adjoint = trust.validation_gradient(
        run.network, run.recipe, request.replay.final_params(), request.validation
    )
    first_norm = float(adjoint.norm())
    errors: list[float] = []

    def check_first_step(step: TrainingStep, direction: torch.Tensor) -> None:
        if not errors:
            errors.append(trust.finite_difference_error(run.network, step, direction))
        if after_step is not None:
            after_step(step, direction)

    def counted() -> Iterator[TrainingStep]:
        done = itertools.count()
        for step in steps:
            request.progress(next(done), total)
            yield step
            # Freed before the next is made; enumerate would keep it.
            del step

    adjoint, _ = retrace(
        run.network,
        run.update,
        counted(),
        adjoint,
        initial_state(run.recipe, adjoint),
        influence,
        damping=request.damping if damping is None else damping,
        after_step=check_first_step,
    )
    request.progress(total, total)
    return influence.numpy(), {
        "adjoint_growth": float(adjoint.norm()) / max(first_norm, 1e-30),
        "finite_difference_error": errors[0],
        "span": request.span,
    }


def compute_all_products(
    run: Runner,
    params: torch.Tensor,
    direction: torch.Tensor,
    epoch: int | None = None,
    heartbeat: Callable[[], None] | None = None,
) -> np.ndarray:
    """Compute ⟨v, ∇ℓ(z_i; θ)⟩ of every training image, (N,) float64.

    Args:
        params: θ, (P,).
        direction: v, (P,).
        epoch: of the augmentation; None for none.
        heartbeat: called before each part; may raise to stop.
    """
    values = np.empty(len(run.images))
    for positions, x, y in iterate_parts(
        run.network, run.recipe, params, run.images, "products", epoch=epoch
    ):
        if heartbeat is not None:
            heartbeat()
        values[positions] = products(run.network, params, direction, x, y).double().cpu().numpy()
    return values


def count_retracing_passes(sizes: Sizes, *, replays: bool = True) -> ImagePasses:
    images = sizes.count * sizes.epochs
    adaptive = 0 if sizes.recipe.optimizer == "sgd" else images
    return ImagePasses(
        gradient=sizes.validation
        + (count_replayed(sizes) if replays else count_from_seed(sizes))
        + adaptive,
        fused=images,
    )
