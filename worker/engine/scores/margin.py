"""Area under the margin (Pleiss et al. 2020), recorded during training."""

from worker.engine.scores.cost import Looks
from worker.engine.scores.method import Asked, Scored, attach


def margin(asked: Asked) -> Scored:
    """The mean over the epochs of the given label's logit minus the largest other one, (N,)."""
    return asked.replay.training.margins, {}


METHOD = attach("margin", margin, lambda _sizes: Looks())
