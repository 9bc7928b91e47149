"""A control: the loss of the finished model."""

from worker.engine.scores.cost import Looks
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.sweep import losses_of


def highest_loss(asked: Asked) -> Scored:
    """−ℓ(z_i; θ_T), (N,)."""
    run = asked.replay.run
    return -losses_of(
        run.network, run.recipe, asked.replay.final_params(), run.images, asked.progress
    ), {}


METHOD = attach("highest_loss", highest_loss, lambda sizes: Looks(forward=sizes.count))
