"""A control: chance."""

from worker.engine import images
from worker.engine.scores.cost import Looks
from worker.engine.scores.method import Asked, Scored, attach

# The stream of draws that this method has for itself.
_RANDOM = 5


def by_chance(asked: Asked) -> Scored:
    """One draw an image from the recipe's seed, in 0…1, (N,)."""
    run = asked.replay.run
    return images.draws(run.recipe.seed, 0, run.images.ids, _RANDOM) / 2.0**64, {}


METHOD = attach("random", by_chance, lambda _sizes: Looks())
