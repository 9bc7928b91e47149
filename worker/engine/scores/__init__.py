"""One file a method, one registry (influence.md, section 6). Every score sorts low first: low means, look at this image first."""

import dataclasses
import importlib
import time
from numbers import Real
from typing import Literal

import numpy as np

from backend.core import catalogue
from worker.engine import devices
from worker.engine.errors import EngineError
from worker.engine.images import Images
from worker.engine.influence.replay import Replay
from worker.engine.recipe import SPANS, check_span
from worker.engine.scores import trust
from worker.engine.scores.cost import Cost, Sizes
from worker.engine.scores.damping import choose_damping
from worker.engine.scores.ensemble import ensemble
from worker.engine.scores.method import Asked, Method, Scored
from worker.engine.scores.report_text import trust_words, warns
from worker.engine.scores.scores import Scores
from worker.engine.sweep import Progress
from worker.engine.training import checks
from worker.engine.training.runner import MAKERS, Training, check_network, runner
from worker.engine.trajectory import files

__all__ = [
    "METHODS",
    "SPANS",
    "Asked",
    "Cost",
    "Method",
    "Scores",
    "Sizes",
    "ensemble",
    "score",
    "trust_words",
    "warns",
]

# A method of the catalogue is the `METHOD` of the file with its name.
METHODS: dict[str, Method] = {
    name: importlib.import_module(f"{__name__}.{name}").METHOD for name in catalogue.METHODS
}


@devices.ordinary_modes()
def score(
    training: Training,
    images: Images,
    validation: Images,
    method: str = "sgd_influence",
    *,
    span: str = "last_epoch",
    memory_budget: int = 2**30,
    damping: float | Literal["auto"] = 1.0,
    verify: bool = False,
    allow_drift: bool = False,
    progress: Progress | None = None,
    device: str = "auto",
    **options: float,
) -> Scores:
    """Score every training image of a finished run.

    images: the N training images of the run. validation: whose mean loss defines harm. span: "last_epoch" or "all_epochs".
    memory_budget: bytes that replayed parameters may take. damping: δ of influence.md, section 7: 1 is exact, "auto" measures which is best.
    verify: also measure the effect of the top group by really training without it (`Method.cost` counts it). allow_drift: go on where a
    replay is not exact. progress(done, total): may raise to stop; each part of the work counts anew. device: "cpu", "cuda", or "auto" for
    the one that the run was trained on. options: the method's own.

    Raises EngineError for input that does not fit, before any long work; ReplayDrift where the run cannot be replayed here.
    """
    checks.given(training, Training, "run", MAKERS)
    chosen = _chosen(method, span, damping)
    damping = damping if isinstance(damping, str) else float(damping)  # NumPy's too
    checks.memory_budget(memory_budget)
    own = chosen.with_defaults(options)
    checks.before_scoring(training.record, images, validation)
    where = devices.choose(device, training.record.environment)
    run = runner(training.recipe, images, device=where)[0]  # θ_0 is not to be held meanwhile
    replay = Replay(training, run, memory_budget, allow_drift)
    told = progress or (lambda _done, _total: None)
    replay.check(chosen.needs, span, lambda: told(0, 1))
    check_network(run, training)
    asked = Asked(replay, validation, span, 1.0, told, own)
    started = time.perf_counter()
    with devices.exact(where, int(training.record.environment["threads"])):
        values, report = _worked_out(asked, chosen, damping, verify)
    if chosen.predicts:
        # What harm means, and over which epochs: scores of others do not average.
        report |= {"validation": validation.digest()}
    if replay.drifted:
        report |= {"drifted": True}
    report |= {
        "seconds": time.perf_counter() - started,
        "stored_bytes": files.stored_bytes(training.folder),
    }
    report |= {"trust": trust_words(report), "warns": warns(report)}
    exact = (
        chosen.exact
        and report.get("damping", 1.0) == 1.0
        and report.get("converged", True)
        and not replay.drifted
    )
    # Rounded steps are replayed as they were, but the derivative is of the function that they round.
    exact = exact and training.recipe.precision == "float32"
    return Scores(values, method, exact, report, images.digest(), training.record.run)


def _chosen(method: str, span: str, damping: float | str) -> Method:
    """The method. Raises EngineError for what does not exist or makes no sense."""
    if not isinstance(method, str) or method not in METHODS:
        raise EngineError(f"There is no method called {method!r}; there are {', '.join(METHODS)}.")
    check_span(span)
    chosen = METHODS[method]
    if not (
        damping == "auto"
        if isinstance(damping, str)
        else isinstance(damping, Real) and 0 < damping <= 1
    ):
        raise EngineError(f'Damping must be above 0 and at most 1, or "auto", not {damping!r}.')
    if damping != 1.0 and not chosen.damps:
        raise EngineError(f"The method {method} has no damping; leave it at 1.")
    return chosen


def _worked_out(
    asked: Asked, method: Method, damping: float | Literal["auto"], verify: bool
) -> Scored:
    """The scores, (N,), and what can be said of them. Raises EngineError where they are not numbers.

    Raises ReplayDrift, before any work, where removals are to be measured and the run's steps do not come out here as they did.
    """
    if damping == "auto" or (verify and method.predicts):
        asked.replay.check_repeats(_measured_epochs(asked, method)[0])
    if damping == "auto":
        values, report = choose_damping(asked, method.run)
    else:
        values, report = method.run(dataclasses.replace(asked, damping=damping))
    if not np.isfinite(values).all():
        raise EngineError(
            "The scores are not numbers: the retracing overflowed. Train with a lower learning rate, or score the last epoch only."
        )
    if method.predicts:
        report |= trust.predicted(values)
        if verify:
            report |= trust.measured(_measured(asked, method, values))
    return values, report


def _measured(asked: Asked, method: Method, values: np.ndarray) -> float | None:
    """What the removal of the top group really changes, over the epochs that the method speaks of."""
    epochs = _measured_epochs(asked, method)
    return trust.measured_change(
        asked.replay, asked.validation, trust.top_group(values), epochs, asked.progress
    )


def _measured_epochs(asked: Asked, method: Method) -> range:
    """The epochs that are run again where the effect of a removal is measured."""
    last = asked.replay.run.recipe.epochs
    return range(last - 1 if method.predicts == "span" and asked.span == "last_epoch" else 0, last)
