"""A control: the loss of the finished model."""

import torch
from torch.nn import functional

from worker.engine.scores.asked import Asked, Method, Scored
from worker.engine.scores.cost import Looks
from worker.engine.training import logits_of


def highest_loss(asked: Asked) -> Scored:
    """−ℓ(z_i; θ_T), (N,)."""
    run = asked.replay.run
    logits = logits_of(run.network, run.recipe, asked.replay.final_params(), run.images, asked.progress)
    return -functional.cross_entropy(logits.double(), torch.from_numpy(run.images.labels), reduction="none").numpy(), {}


METHOD = Method(
    highest_loss, "The finished model finds this image's label hardest to believe.", lambda sizes: Looks(forward=sizes.count), needs="end"
)
