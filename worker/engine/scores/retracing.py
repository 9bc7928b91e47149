"""One retracing of a span, shared by the methods that differ in where the parameters come from and in the recursion."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from worker.engine.derivatives.passes import TrainingStep, products
from worker.engine.derivatives.retrace import Damping, retrace
from worker.engine.optimizers import initial_state
from worker.engine.scores import trust
from worker.engine.scores.cost import Looks, Sizes, from_seed, replaying
from worker.engine.scores.method import Asked, Scored
from worker.engine.sweep import walk
from worker.engine.training.runner import Runner

Look = Callable[[TrainingStep, torch.Tensor], None]


def replayed(asked: Asked) -> Iterator[TrainingStep]:
    """The steps of the span as they happened, last first."""
    for epoch in asked.epochs:
        yield from asked.replay.epoch(epoch)


def retraced(
    asked: Asked,
    steps: Iterator[TrainingStep],
    *,
    damping: Damping | None = None,
    look: Look | None = None,
) -> Scored:
    """Retrace the span: influence (N,), and what the retracing tells about itself. damping: asked.damping where None. look: see `retrace`."""
    run = asked.replay.run
    total = run.steps * len(asked.epochs)
    influence = torch.zeros(len(run.images), dtype=torch.float64)
    adjoint = trust.validation_gradient(
        run.network, run.recipe, asked.replay.final_params(), asked.validation
    )
    first_norm = float(adjoint.norm())
    checks: list[float] = []

    def after_step(step: TrainingStep, direction: torch.Tensor) -> None:
        if not checks:
            checks.append(trust.finite_difference_error(run.network, step, direction))
        if look is not None:
            look(step, direction)

    def counted() -> Iterator[TrainingStep]:
        done = itertools.count()
        for step in steps:
            asked.progress(next(done), total)
            yield step
            # Not to be held while the next is made, as enumerate would.
            del step

    adjoint, _ = retrace(
        run.network,
        run.update,
        counted(),
        adjoint,
        initial_state(run.recipe, adjoint),
        influence,
        damping=asked.damping if damping is None else damping,
        after_step=after_step,
    )
    asked.progress(total, total)
    return influence.numpy(), {
        "adjoint_growth": float(adjoint.norm()) / max(first_norm, 1e-30),
        "finite_difference_error": checks[0],
        "span": asked.span,
    }


def products_of_all(
    run: Runner,
    params: torch.Tensor,
    direction: torch.Tensor,
    epoch: int | None = None,
    beat: Callable[[], None] | None = None,
) -> np.ndarray:
    """⟨v, ∇ℓ(z_i; θ)⟩ of every training image, (N,) float64: in one forward pass, as augmented in `epoch`, or as they are.

    beat: called before each part of the pass; may raise to stop.
    """
    values = np.empty(len(run.images))
    for positions, x, y in walk(
        run.network, run.recipe, params, run.images, "products", epoch=epoch
    ):
        if beat is not None:
            beat()
        values[positions] = products(run.network, params, direction, x, y).double().cpu().numpy()
    return values


def retracing_looks(sizes: Sizes, *, replays: bool = True) -> Looks:
    """What retracing a span takes: the validation gradient, the replay (or θ_T alone), the fused pass, and Adam's gradients."""
    images = sizes.count * sizes.epochs
    adaptive = 0 if sizes.recipe.optimizer == "sgd" else images
    return Looks(
        gradient=sizes.validation + (replaying(sizes) if replays else from_seed(sizes)) + adaptive,
        fused=images,
    )
