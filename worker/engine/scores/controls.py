"""Scores that need no retracing."""

from typing import Any

import numpy as np

from worker.engine import data
from worker.engine.evaluation import losses_of
from worker.engine.scores.asked import Asked

# The stream of draws that the random control uses.
_RANDOM = 5


def margin(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """Area under the margin, recorded during training, (N,) (Pleiss et al. 2020)."""
    return asked.replay.training.margins, {}


def highest_loss(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """−ℓ(z_i; θ_T), (N,)."""
    run = asked.replay.run
    return -losses_of(run.network, run.recipe, asked.replay.final_params(), run.images, asked.progress), {}


def random(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """One draw an image from the recipe's seed, in 0…1, (N,)."""
    run = asked.replay.run
    return data.draws(run.recipe.seed, 0, run.images.ids, _RANDOM) / 2.0**64, {}
