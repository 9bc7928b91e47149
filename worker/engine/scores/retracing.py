"""The retracing that several methods share."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from worker.engine.derivatives.passes import TrainingStep, products
from worker.engine.derivatives.retrace import Damping, Relabelling, retrace
from worker.engine.optimizers import State, initial_state
from worker.engine.scores import trust
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed, count_replayed
from worker.engine.scores.errors import Groups, shares_of
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
    """Retrace the span from the validation gradient: influence, and that of another label.

    With the request's groups, each has an adjoint of its own; none with `after_step`.

    Args:
        steps: last first.
        damping: the request's if None.
        after_step: called with each step and its v, (P,).
    """
    run = request.replay.run
    total = run.steps * len(request.epochs)
    groups = request.groups if after_step is None else None
    adjoint = _first_adjoint(request, groups)
    shares = None if groups is None else shares_of(groups, adjoint)
    count = len(run.images)
    influence = torch.zeros(count if groups is None else (count, len(groups)), dtype=torch.float64)
    relabelling = Relabelling(count, run.recipe.classes, run.device, shares)
    first_norm = float(_mean(adjoint, shares).norm())
    errors: list[float] = []

    def check_first_step(step: TrainingStep, direction: torch.Tensor) -> None:
        if not errors:
            whole = _mean(direction, shares)
            errors.append(trust.finite_difference_error(run.network, step, whole))
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
        _first_state(request, adjoint),
        influence,
        damping=request.damping if damping is None else damping,
        after_step=check_first_step,
        relabelling=relabelling,
    )
    request.progress(total, total)
    report = {
        "adjoint_growth": float(_mean(adjoint, shares).norm()) / max(first_norm, 1e-30),
        "finite_difference_error": errors[0],
        "span": request.span,
    }
    values = influence.numpy()
    relabelled = relabelling.values.cpu().numpy()
    if groups is None:
        return ScoresAndReport(values, report, relabelling=relabelled)
    return ScoresAndReport(values @ groups.shares, report, values.astype(np.float32), relabelled)


def _first_adjoint(request: ScoringRequest, groups: Groups | None) -> torch.Tensor:
    """Return the gradient of the validation loss, (P,), or of each group's, (K, P)."""
    run, params = request.replay.run, request.replay.final_params()
    of_run = (run.network, run.recipe, params, request.validation)
    if groups is None:
        return trust.validation_gradient(*of_run)
    return trust.group_gradients(*of_run, groups.of_image)


def _first_state(request: ScoringRequest, adjoint: torch.Tensor) -> State:
    """Return zero adjoints of the optimizer's state, with a first axis of K as `adjoint`."""
    recipe = request.replay.run.recipe
    if adjoint.dim() == 1:
        return initial_state(recipe, adjoint)
    state = initial_state(recipe, adjoint[0])
    return {name: value.new_zeros(len(adjoint), *value.shape) for name, value in state.items()}


def _mean(vectors: torch.Tensor, shares: torch.Tensor | None) -> torch.Tensor:
    """Join K groups' vectors (K, P) to that of all validation images, (P,)."""
    return vectors if shares is None else shares @ vectors


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
