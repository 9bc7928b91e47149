"""Influence averaged over the draw of each image (docs/method.md, section 5)."""

import dataclasses

import numpy as np
import torch

from worker.engine.derivatives.passes import TrainingStep
from worker.engine.optimizers import mask_unmoved_weights
from worker.engine.scores.cost import ImagePasses, Sizes
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import (
    compute_all_products,
    count_retracing_passes,
    replay_span,
    retrace_span,
)

# M of docs/method.md, section 5.
SAMPLED_STEPS = 8


def marginal_influence(request: ScoringRequest) -> ScoresAndReport:
    """Sum (η_t/N) ⟨u_{t+1}, ∇ℓ(z_i; θ_t)⟩ over sampled steps of the span, (N,)."""
    run = request.replay.run
    steps = run.steps
    sampled = _sampled_steps(steps, int(request.options["sampled_steps"]))
    values = np.zeros(len(run.images))
    steps_done = 0

    def add_products(step: TrainingStep, direction: torch.Tensor) -> None:
        nonlocal steps_done
        epoch, t = request.epochs[steps_done // steps], steps - 1 - steps_done % steps
        steps_done += 1
        if t in sampled:
            # v = −η u for plain SGD
            products = compute_all_products(
                run,
                step.params,
                mask_unmoved_weights(step.state, direction),
                epoch,
                lambda: request.progress(steps_done - 1, steps * len(request.epochs)),
            )
            # Drawn with probability |S_t|/N and weighted 1/|S_t|: 1/N, in a short batch too.
            values[:] -= products * steps / (len(values) * len(sampled))

    report = retrace_span(request, replay_span(request), after_step=add_products).report
    return ScoresAndReport(
        values, report | {"damping": request.damping, "sampled_steps": len(sampled)}
    )


def _sampled_steps(steps: int, parts: int) -> set[int]:
    count = min(parts, steps)
    return {int((part + 0.5) * steps / count) for part in range(count)}


def _count_passes(sizes: Sizes) -> ImagePasses:
    sampled = min(int(sizes.options["sampled_steps"]), sizes.steps)
    return dataclasses.replace(
        count_retracing_passes(sizes), directional=sizes.count * sizes.epochs * sampled
    )


METHOD = attach(
    "marginal_influence",
    marginal_influence,
    _count_passes,
    options={"sampled_steps": SAMPLED_STEPS},
)
