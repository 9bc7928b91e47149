"""Influence along the run as it was (Hara, Nitanda and Maehara 2019, algorithm 1; influence.md, section 2)."""

from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import replayed, retraced, retracing_looks


def sgd_influence(asked: Asked) -> Scored:
    """I_i += (η_t/|S_t|) ⟨u_{t+1}, ∇ℓ(z_i; θ_t)⟩ for every step t of the span that drew image i, (N,)."""
    values, report = retraced(asked, replayed(asked))
    return values, report | {"damping": asked.damping}


METHOD = attach("sgd_influence", sgd_influence, retracing_looks)
