"""θ_T in place of every θ_t (Suzuki, Kobayashi and Narihira 2021, section 3)."""

from collections.abc import Iterator

import torch

from worker.engine import images
from worker.engine.derivatives.passes import TrainingStep
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.retracing import count_retracing_passes, retrace_span


def final_params(request: ScoringRequest) -> ScoresAndReport:
    """Retrace with θ_T and the last optimizer state at every step, (N,)."""
    found = retrace_span(request, _steps(request))
    return found._replace(report=found.report | {"damping": request.damping})


def _steps(request: ScoringRequest) -> Iterator[TrainingStep]:
    run = request.replay.run
    params, state = request.replay.start(run.recipe.epochs)
    for epoch in request.epochs:
        order = images.draw_batches(run.recipe, run.images, epoch)
        with run.prefetch(epoch, order, stride=-1) as batch:
            for t in reversed(range(len(order))):
                yield TrainingStep(
                    params,
                    state,
                    *batch(t),
                    torch.from_numpy(order[t]).to(run.device),
                    run.rate(epoch, t),
                )


METHOD = attach(
    "final_params", final_params, lambda sizes: count_retracing_passes(sizes, replays=False)
)
