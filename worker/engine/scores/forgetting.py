"""Forgetting events (Toneva et al. 2019), recorded during training."""

import numpy as np

from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.trajectory.training_dynamics import NEVER


def forgetting(request: ScoringRequest) -> ScoresAndReport:
    """Negate the number of forgetting events, (N,); never-learned images come first."""
    training = request.replay.training
    counts = training.signals.forgotten.astype(np.float64)
    never = counts == NEVER
    values = np.where(never, -float(training.recipe.epochs + 1), -np.maximum(counts, 0))
    return ScoresAndReport(
        values, {"never_learned": int(never.sum()), "forgotten": int((counts > 0).sum())}
    )


METHOD = attach("forgetting", forgetting, lambda _sizes: ImagePasses())
