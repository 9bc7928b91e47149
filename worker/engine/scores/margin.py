"""Area under the margin (Pleiss et al. 2020), recorded during training."""

from worker.engine.scores.cost import ImagePasses
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach


def margin(request: ScoringRequest) -> ScoresAndReport:
    """Average the label's logit minus the largest other over the epochs, (N,)."""
    return ScoresAndReport(request.replay.training.margins, {})


METHOD = attach("margin", margin, lambda _sizes: ImagePasses())
