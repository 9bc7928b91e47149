"""One file a method, one registry (influence.md, section 6). Every score sorts low first: low means, look at this image first."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.engine import data, trajectory
from worker.engine.data import Images
from worker.engine.errors import EngineError
from worker.engine.replay import Replay
from worker.engine.scores import controls, influence
from worker.engine.scores.asked import SPANS, Asked
from worker.engine.training import Training, runner, threads
from worker.engine.trajectory import Progress

__all__ = ["METHODS", "SPANS", "Asked", "Method", "Scores", "score"]


@dataclass(frozen=True)
class Method:
    """A method, what it says to a person, and what it costs (in passes over the training images of the span, of a training pass's cost)."""

    run: Callable[[Asked], tuple[np.ndarray, dict[str, Any]]]
    meaning: str
    passes: str
    replays: bool


METHODS: dict[str, Method] = {
    "sgd_influence": Method(
        influence.sgd_influence,
        "Without this image, this very training would have ended with a lower validation loss.",
        "one replay and one retracing of each epoch in the span",
        replays=True,
    ),
    "marginal_influence": Method(
        influence.marginal_influence,
        "The same, averaged over the moment of the epoch at which the image was seen.",
        "as sgd_influence, and eight forward passes over all images an epoch",
        replays=True,
    ),
    "final_params": Method(
        influence.final_params,
        "The same as sgd_influence, estimated from the finished model alone.",
        "one retracing of each epoch in the span",
        replays=False,
    ),
    "margin": Method(
        controls.margin, "During training the model rarely believed this image's label.", "none: recorded during training", replays=False
    ),
    "highest_loss": Method(
        controls.highest_loss, "The finished model finds this image's label hardest to believe.", "one forward pass", replays=False
    ),
    "random": Method(controls.random, "Picked by chance, for comparison.", "none", replays=False),
}


@dataclass(frozen=True)
class Scores:
    """values: (N,) float64, low first. exact: whether they are what the method defines, not an approximation of it."""

    values: np.ndarray
    method: str
    exact: bool
    report: dict[str, Any]


def score(
    training: Training,
    images: Images,
    validation: Images,
    method: str = "sgd_influence",
    *,
    span: str = "last_epoch",
    memory_budget: int = 2**30,
    damping: float = 1.0,
    verify: bool = False,
    allow_drift: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score every training image of a finished run.

    images: the N training images of the run. validation: whose mean loss defines harm. span: "last_epoch" or "all_epochs".
    memory_budget: bytes that replayed parameters may take. damping: δ of influence.md, section 7; 1 is exact. verify: also measure the
    effect of the top group by an actual counterfactual run (costs one training of the span). allow_drift: go on where a replay is not exact.

    Raises EngineError for input that does not fit, ReplayDrift where the run cannot be replayed here.
    """
    if method not in METHODS:
        raise EngineError(f"There is no method called {method!r}; there are {', '.join(METHODS)}.")
    if span not in SPANS:
        raise EngineError(f"There is no span called {span!r}; there are {', '.join(SPANS)}.")
    data.check(validation, training.recipe, "validation")
    if training.record.images != images.digest():
        raise EngineError("These are not the images that the run was trained on; give the same list, with the same labels.")
    if training.record.left_out:
        raise EngineError("This run left images out, so its images cannot be scored; score the run that it repeats.")
    run, _ = runner(training.recipe, images)
    replay = Replay(training, run, memory_budget, allow_drift)
    started = time.perf_counter()
    with threads(int(training.record.environment["threads"])):
        asked = Asked(replay, validation, span, damping, verify, progress or (lambda _done, _total: None))
        values, report = METHODS[method].run(asked)
    if not np.isfinite(values).all():
        raise EngineError(
            "The scores are not numbers: the retracing overflowed. Train with a lower learning rate, or score the last epoch only."
        )
    report |= {"seconds": time.perf_counter() - started, "stored_bytes": trajectory.stored_bytes(training.folder)}
    exact = method != "final_params" and damping == 1.0 and not replay.drifted
    return Scores(values, method, exact, report)
