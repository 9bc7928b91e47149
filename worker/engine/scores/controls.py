"""Scores that need no retracing."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from worker.engine import data
from worker.engine.scores.asked import Asked
from worker.engine.training import logits_of

# The stream of draws that the random control uses.
_RANDOM = 5


def margin(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """Area under the margin, recorded during training, (N,) (Pleiss et al. 2020)."""
    return asked.replay.training.margins, {}


def highest_loss(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """−ℓ(z_i; θ_T), (N,)."""
    run = asked.replay.run
    logits = logits_of(run.network, run.recipe, asked.replay.final_params(), run.images, asked.progress)
    return -functional.cross_entropy(logits.double(), torch.from_numpy(run.images.labels), reduction="none").numpy(), {}


def random(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """One draw an image from the recipe's seed, in 0…1, (N,)."""
    run = asked.replay.run
    return data.draws(run.recipe.seed, 0, run.images.ids, _RANDOM) / 2.0**64, {}
