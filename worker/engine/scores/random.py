"""Random scores, a control."""

from worker.engine import images
from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach

_RANDOM = 5


def draw_scores(request: ScoringRequest) -> ScoresAndReport:
    """Draw numbers in 0…1 from the recipe's seed, (N,)."""
    run = request.replay.run
    return ScoresAndReport(
        images.draw_hashes(run.recipe.seed, 0, run.images.ids, _RANDOM) / 2.0**64, {}
    )


METHOD = attach("random", draw_scores, lambda _sizes: ImagePasses())
