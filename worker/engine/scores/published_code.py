"""The recursion as in the code that the first paper's authors published, for reproducing their figures only (influence.md, section 2)."""

from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import replayed, retraced, retracing_looks


def published_code(asked: Asked) -> Scored:
    """As sgd_influence, but u ← u − (η_t/|S_t|) H_t u, where H_t is a mean already: divided by |S_t| twice, (N,)."""
    # 1/|S_t| once more than the derivative of the step has it
    return retraced(asked, replayed(asked), damping=lambda step: 1.0 / len(step.y))


METHOD = attach("published_code", published_code, retracing_looks)
