"""Influence along the run as it was (docs/method.md, section 2)."""

from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import count_retracing_passes, replay_span, retrace_span


def sgd_influence(request: ScoringRequest) -> ScoresAndReport:
    """Sum I_i += (η_t/|S_t|) ⟨u_{t+1}, ∇ℓ(z_i; θ_t)⟩ over the span, (N,).

    Source: Hara, Nitanda and Maehara 2019, algorithm 1.
    """
    found = retrace_span(request, replay_span(request))
    return found._replace(report=found.report | {"damping": request.damping})


METHOD = attach("sgd_influence", sgd_influence, count_retracing_passes)
