"""TracIn over epoch checkpoints (Pruthi et al. 2020, section 3): influence without the curvature."""

import functools

import numpy as np

from worker.engine.scores import trust
from worker.engine.scores.cost import Looks, Sizes, from_seed
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import products_of_all


def tracin(asked: Asked) -> Scored:
    """I_i = Σ over the span's epochs e of η_e/((1 − μ)|S|) ⟨∇ℓ_val(θ_e), ∇ℓ(z_i; θ_e)⟩, θ_e at the epoch's end, η_e its mean rate, (N,).

    The sum is what SGD gains on the validation loss by image i; without the image that is lost, so low (negative) is harmful.
    """
    run = asked.replay.run
    values = np.zeros(len(run.images))
    for done, epoch in enumerate(asked.epochs):
        beat = functools.partial(asked.progress, done, len(asked.epochs))
        params = asked.replay.start(epoch + 1)[0]
        gradient = trust.validation_gradient(run.network, run.recipe, params, asked.validation)
        values += checkpoint_weight(asked, epoch) * products_of_all(
            run, params, gradient, beat=beat
        )
    asked.progress(len(asked.epochs), len(asked.epochs))
    return values, {"span": asked.span, "checkpoints": len(asked.epochs)}


def checkpoint_weight(asked: Asked, epoch: int) -> float:
    """η_e/((1 − μ)|S|): the epoch's mean learning rate over its mean batch size. With momentum μ a gradient is taken 1/(1 − μ) times in all."""
    run = asked.replay.run
    rate = float(np.mean([run.rate(epoch, t) for t in range(run.steps)]))
    return rate / (1 - run.recipe.momentum) * run.steps / len(run.images)


def _looks(sizes: Sizes) -> Looks:
    return Looks(
        gradient=sizes.epochs * sizes.validation + from_seed(sizes),
        directional=sizes.epochs * sizes.count,
    )


METHOD = attach("tracin", tracin, _looks)
