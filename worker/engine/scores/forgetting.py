"""Forgetting events (Toneva et al. 2019), recorded during training."""

import numpy as np

from worker.engine.scores.cost import Looks
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.trajectory.training_dynamics import NEVER


def forgetting(asked: Asked) -> Scored:
    """−(times that the image went from right to wrong, from epoch to epoch), (N,); one that was never right stands before all others."""
    training = asked.replay.training
    counts = training.signals.forgotten.astype(np.float64)
    never = counts == NEVER
    # An image can be forgotten at most every other epoch, so this is below every count.
    values = np.where(never, -float(training.recipe.epochs + 1), -np.maximum(counts, 0))
    return values, {"never_learned": int(never.sum()), "forgotten": int((counts > 0).sum())}


METHOD = attach("forgetting", forgetting, lambda _sizes: Looks())
