"""The recursion of the first paper's code (docs/method.md, section 2)."""

from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import count_retracing_passes, replay_span, retrace_span


def published_code(request: ScoringRequest) -> ScoresAndReport:
    """Retrace with u ← u − (η_t/|S_t|) H_t u, (N,), to reproduce published figures.

    H_t is a mean already.
    """
    return retrace_span(request, replay_span(request), damping=lambda step: 1.0 / len(step.y))


METHOD = attach("published_code", published_code, count_retracing_passes)
