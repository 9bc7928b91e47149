"""TracIn over epoch checkpoints (Pruthi et al. 2020, section 3)."""

import functools

import numpy as np

from worker.engine.scores import trust
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import compute_all_products


def tracin(request: ScoringRequest) -> ScoresAndReport:
    """Sum η_e/((1 − μ)|S|) ⟨∇ℓ_val(θ_e), ∇ℓ(z_i; θ_e)⟩ over the span's epochs e, (N,).

    θ_e is at the epoch's end, η_e its mean rate.
    """
    run = request.replay.run
    values = np.zeros(len(run.images))
    for done, epoch in enumerate(request.epochs):
        heartbeat = functools.partial(request.progress, done, len(request.epochs))
        params = request.replay.start(epoch + 1)[0]
        gradient = trust.validation_gradient(run.network, run.recipe, params, request.validation)
        values += checkpoint_weight(request, epoch) * compute_all_products(
            run, params, gradient, heartbeat=heartbeat
        )
    request.progress(len(request.epochs), len(request.epochs))
    return ScoresAndReport(values, {"span": request.span, "checkpoints": len(request.epochs)})


def checkpoint_weight(request: ScoringRequest, epoch: int) -> float:
    """Return η_e/((1 − μ)|S|): momentum μ applies each gradient 1/(1 − μ) times."""
    run = request.replay.run
    rate = float(np.mean([run.rate(epoch, t) for t in range(run.steps)]))
    return rate / (1 - run.recipe.momentum) * run.steps / len(run.images)


def _count_passes(sizes: Sizes) -> ImagePasses:
    return ImagePasses(
        gradient=sizes.epochs * sizes.validation + count_from_seed(sizes),
        directional=sizes.epochs * sizes.count,
    )


METHOD = attach("tracin", tracin, _count_passes)
