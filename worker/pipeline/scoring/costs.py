"""What each method will cost for a run, worked out when its training ends: the page shows it before anything is started; and whether any can run."""

import statistics
from typing import Any

from worker import engine
from worker.engine import GRADIENT, LEAST_ROOM, Method, Recipe, Sizes, Training
from worker.jobs import JobFailed

# Beside the method's own passes a run's first scoring looks at what the model sees in each image, and at which are alike.
LOOKING = 2

Costs = dict[str, dict[str, dict[str, Any]]]


def check_room(recipe: Recipe, images: int, budget: int) -> None:
    """Raises JobFailed, before anything is trained, where this network's steps could not be replayed within `budget` bytes."""
    least = LEAST_ROOM * Sizes(recipe, images, "last_epoch").point_bytes
    if budget < least:
        raise JobFailed(
            f"The network {recipe.network} is too large to be scored here: replaying its steps takes {least:,} bytes, and "
            f"WINNOW_SCORING_MEMORY_BYTES allows {budget:,}. Raise that setting, or choose a smaller network; nothing was trained."
        )


def of_run(training: Training, images: int, validation: int, budget: int) -> Costs:
    """Method → span → passes over the training images, seconds, bytes in memory and on disk; budget: bytes for replayed parameters.

    Seconds come from the median of what an epoch of the training took: the first one also warms the machine up.
    """
    epoch_seconds = statistics.median(report.seconds for report in training.history)
    further = {
        "validation": validation,
        "store": training.record.store,
        "budget": budget,
        "verify": True,
    }
    return {
        name: {
            span: _cost(method, training.recipe, images, span, epoch_seconds, further)
            for span in engine.SPANS
        }
        for name, method in engine.METHODS.items()
    }


def _cost(
    method: Method,
    recipe: Recipe,
    images: int,
    span: str,
    epoch_seconds: float,
    further: dict[str, Any],
) -> dict[str, Any]:
    cost = method.cost(recipe, images, span, **further)
    passes = cost.passes + LOOKING
    damped = (
        method.cost(recipe, images, span, **further, damping="auto").seconds(epoch_seconds)
        if method.damps
        else None
    )
    return {
        "passes": round(passes, 2),
        "seconds": round(passes / GRADIENT * epoch_seconds, 6),
        "memory_bytes": cost.memory_bytes,
        "stored_bytes": cost.stored_bytes,
        "damping_seconds": None if damped is None else round(damped, 6),
    }
