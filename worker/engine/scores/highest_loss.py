"""A control: the loss of the finished model."""

from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.sweep import compute_losses


def highest_loss(request: ScoringRequest) -> ScoresAndReport:
    """Compute −ℓ(z_i; θ_T), (N,)."""
    run = request.replay.run
    losses = compute_losses(
        run.network, run.recipe, request.replay.final_params(), run.images, request.progress
    )
    return ScoresAndReport(-losses, {})


METHOD = attach("highest_loss", highest_loss, lambda sizes: ImagePasses(forward=sizes.count))
