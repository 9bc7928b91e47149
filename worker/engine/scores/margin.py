"""Area under the margin (Pleiss et al. 2020), recorded during training."""

from worker.engine.scores.cost import Looks
from worker.engine.scores.method import Asked, Method, Scored


def margin(asked: Asked) -> Scored:
    """The mean over the epochs of the given label's logit minus the largest other one, (N,)."""
    return asked.replay.training.margins, {}


METHOD = Method(
    margin,
    "During training the model rarely believed this image's label.",
    lambda _sizes: Looks(),
    needs="nothing",
)
