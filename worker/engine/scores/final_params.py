"""The second paper's approximation: θ_T in place of every θ_t (Suzuki, Kobayashi and Narihira 2021, section 3)."""

from collections.abc import Iterator

import torch

from worker.engine import images
from worker.engine.derivatives.passes import TrainingStep
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.retracing import retraced, retracing_looks


def final_params(asked: Asked) -> Scored:
    """As SGD influence, with θ_T (and the optimizer's last state) for every step, (N,)."""
    values, report = retraced(asked, _steps(asked))
    return values, report | {"damping": asked.damping}


def _steps(asked: Asked) -> Iterator[TrainingStep]:
    run = asked.replay.run
    params, state = asked.replay.start(run.recipe.epochs)
    for epoch in asked.epochs:
        order = images.batches(run.recipe, run.images, epoch)
        with run.batches(epoch, order, towards=-1) as batch:
            for t in reversed(range(len(order))):
                yield TrainingStep(
                    params,
                    state,
                    *batch(t),
                    torch.from_numpy(order[t]).to(run.device),
                    run.rate(epoch, t),
                )


METHOD = attach("final_params", final_params, lambda sizes: retracing_looks(sizes, replays=False))
