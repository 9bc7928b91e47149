"""Costs of each method for a run, computed when its training ends."""

import statistics
from typing import Any

from backend.core.reports import MethodCost
from worker import engine
from worker.engine import GRADIENT, LEAST_ROOM, Method, Recipe, Sizes, Training
from worker.jobs import JobFailed

# Passes of a first scoring besides the method's: predictions and similarity.
LOOKING = 2

Costs = dict[str, dict[str, MethodCost]]


def check_room(recipe: Recipe, images: int, budget: int) -> None:
    """Raise JobFailed if the network's steps cannot be replayed within `budget` bytes."""
    least = LEAST_ROOM * Sizes(recipe, images, "last_epoch").point_bytes
    if budget < least:
        raise JobFailed(
            f"The network {recipe.network} is too large to be scored here: replaying its steps "
            f"takes {least:,} bytes, and WINNOW_SCORING_MEMORY_BYTES allows {budget:,}. Raise that "
            "setting, or choose a smaller network; nothing was trained."
        )


def of_run(training: Training, images: int, validation: int, budget: int) -> Costs:
    """Compute method → span → cost. budget: bytes for replayed parameters.

    Seconds follow the median epoch: the first also warms the machine up.
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
) -> MethodCost:
    cost = method.cost(recipe, images, span, **further)
    passes = cost.passes + LOOKING
    damped = (
        method.cost(recipe, images, span, **further, damping="auto").seconds(epoch_seconds)
        if method.damps
        else None
    )
    return MethodCost(
        passes=round(passes, 2),
        seconds=round(passes / GRADIENT * epoch_seconds, 6),
        memory_bytes=cost.memory_bytes,
        stored_bytes=cost.stored_bytes,
        damping_seconds=None if damped is None else round(damped, 6),
    )
