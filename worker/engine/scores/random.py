"""A control: chance."""

from worker.engine import images
from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach

# The stream of draws of this method.
_RANDOM = 5


def draw_scores(request: ScoringRequest) -> ScoresAndReport:
    """Draw a number in 0…1 for each image from the recipe's seed, (N,)."""
    run = request.replay.run
    return images.draw_hashes(run.recipe.seed, 0, run.images.ids, _RANDOM) / 2.0**64, {}


METHOD = attach("random", draw_scores, lambda _sizes: ImagePasses())
