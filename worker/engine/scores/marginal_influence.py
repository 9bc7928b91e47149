"""Influence without the luck of the draw: averaged over the step of its epoch at which an image is seen (influence.md, section 5)."""

import dataclasses

import numpy as np
import torch

from worker.engine.derivatives.passes import TrainingStep
from worker.engine.optimizers import felt
from worker.engine.scores.cost import Looks, Sizes
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import products_of_all, replayed, retraced, retracing_looks

# Steps of an epoch at which every image is looked at: M of section 5.
SAMPLED_STEPS = 8


def marginal_influence(asked: Asked) -> Scored:
    """I_i = Σ over epochs of Σ_t (η_t/N) ⟨u_{t+1}, ∇ℓ(z_i; θ_t)⟩, from some of the steps t, the trajectory held fixed, (N,)."""
    run = asked.replay.run
    steps = run.steps
    sampled = _sampled(steps, int(asked.options["sampled_steps"]))
    values = np.zeros(len(run.images))
    seen = 0

    def look(step: TrainingStep, direction: torch.Tensor) -> None:
        nonlocal seen
        epoch, t = asked.epochs[seen // steps], steps - 1 - seen % steps
        seen += 1
        if t in sampled:
            # v is −η u for plain SGD
            products = products_of_all(
                run,
                step.params,
                felt(step.state, direction),
                epoch,
                lambda: asked.progress(seen - 1, steps * len(asked.epochs)),
            )
            # An image is in S_t in |S_t| of N orders, and counts 1/|S_t| there: a short last batch counts no more than another.
            values[:] -= products * steps / (len(values) * len(sampled))

    _, report = retraced(asked, replayed(asked), look=look)
    return values, report | {"damping": asked.damping, "sampled_steps": len(sampled)}


def _sampled(steps: int, asked: int) -> set[int]:
    """Steps of an epoch: the middle of each of as many equal parts of it."""
    count = min(asked, steps)
    return {int((part + 0.5) * steps / count) for part in range(count)}


def _looks(sizes: Sizes) -> Looks:
    sampled = min(int(sizes.options["sampled_steps"]), sizes.steps)
    return dataclasses.replace(
        retracing_looks(sizes), directional=sizes.count * sizes.epochs * sampled
    )


METHOD = attach(
    "marginal_influence", marginal_influence, _looks, options={"sampled_steps": SAMPLED_STEPS}
)
