"""Score methods and their registry; low scores come first (docs/method.md, section 6)."""

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
from worker.engine.networks.linear_head import LinearHead
from worker.engine.recipe import SPANS, check_span
from worker.engine.scores import trust
from worker.engine.scores.cost import Cost, Sizes
from worker.engine.scores.damping import choose_damping
from worker.engine.scores.ensemble import ensemble
from worker.engine.scores.errors import GROUPS, make_groups
from worker.engine.scores.method import Method, ScoresAndReport, ScoringRequest
from worker.engine.scores.report_text import trust_words, warns
from worker.engine.scores.scores import Scores
from worker.engine.sweep import Progress
from worker.engine.training import checks
from worker.engine.training.runner import TRAINING_SOURCES, Training, check_network, make_runner
from worker.engine.trajectory import files

__all__ = [
    "METHODS",
    "SPANS",
    "Cost",
    "Method",
    "Scores",
    "ScoringRequest",
    "Sizes",
    "ensemble",
    "score",
    "trust_words",
    "warns",
]

# Each file is named after its method.
METHODS: dict[str, Method] = {
    name: importlib.import_module(f"{__name__}.{name}").METHOD for name in catalogue.METHODS
}


@devices.default_torch_modes()
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
    groups: int | None = None,
    **options: float,
) -> Scores:
    """Score every training image of a finished run.

    Args:
        training: finished run.
        images: its N training images.
        validation: images whose mean loss defines harm.
        method: name in `METHODS`.
        span: "last_epoch" or "all_epochs".
        memory_budget: bytes for replayed parameters.
        damping: δ; 1 is exact, "auto" measures which is best.
        verify: also measure the effect of removing the top group.
        allow_drift: continue where a replay is not exact.
        progress: called as progress(done, total) for each part; may raise to stop.
        device: "cpu", "cuda", or "auto" for the run's device.
        groups: of the validation images, K, for the scores' errors; 0 for none. A head carries
            32 at once unless told otherwise; another network pays a pass for each, so none.
        options: of the method.

    Raises:
        EngineError: invalid input, before any long work, or scores that are not numbers.
        ReplayDrift: the run cannot be replayed here.
    """
    checks.check_type(training, Training, "run", TRAINING_SOURCES)
    chosen = _choose_method(method, span, damping)
    damping = damping if isinstance(damping, str) else float(damping)  # also from NumPy
    checks.check_memory_budget(memory_budget)
    own_options = chosen.with_defaults(options)
    checks.check_before_scoring(training.record, images, validation)
    where = devices.choose_device(device, training.record.environment)
    run = make_runner(training.recipe, images, device=where)[0]  # frees θ_0
    replay = Replay(training, run, memory_budget, allow_drift)
    report_progress = progress or (lambda _done, _total: None)
    replay.check(chosen.needs, span, lambda: report_progress(0, 1))
    check_network(run, training)
    if groups is None:
        groups = GROUPS if isinstance(run.network, LinearHead) else 0
    request = ScoringRequest(
        replay,
        validation,
        span,
        1.0,
        report_progress,
        own_options,
        make_groups(validation, groups),
    )
    started = time.perf_counter()
    with devices.deterministic(where, int(training.record.environment["threads"])):
        found = _compute(request, chosen, damping, verify)
    report = found.report
    if chosen.predicts:
        # `ensemble` refuses to mix validation images.
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
    # Derivatives ignore the rounding of bfloat16.
    exact = exact and training.recipe.precision == "float32"
    return Scores(
        found.values,
        method,
        exact,
        report,
        images.digest(),
        training.record.run,
        found.group_values,
        found.relabelling,
    )


def _choose_method(method: str, span: str, damping: float | str) -> Method:
    if not isinstance(method, str) or method not in METHODS:
        raise EngineError(
            f"There is no method called {method!r}; choose from {', '.join(METHODS)}."
        )
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


def _compute(
    request: ScoringRequest, method: Method, damping: float | Literal["auto"], verify: bool
) -> ScoresAndReport:
    if damping == "auto" or (verify and method.predicts):
        request.replay.check_repeats(_epochs_to_repeat(request, method)[0])
    if damping == "auto":
        found = choose_damping(request, method.run)
    else:
        found = method.run(dataclasses.replace(request, damping=damping))
    values, report = found.values, found.report
    if not np.isfinite(values).all():
        raise EngineError(
            "The scores are not numbers: the retracing overflowed. Train with a lower learning "
            "rate, or score the last epoch only."
        )
    if method.predicts:
        report |= trust.report_prediction(values)
        if verify:
            report |= trust.report_measurement(_measure_removal(request, method, values))
    return found._replace(report=report)


def _measure_removal(request: ScoringRequest, method: Method, values: np.ndarray) -> float | None:
    epochs = _epochs_to_repeat(request, method)
    return trust.measure_change(
        request.replay, request.validation, trust.top_group(values), epochs, request.progress
    )


def _epochs_to_repeat(request: ScoringRequest, method: Method) -> range:
    last = request.replay.run.recipe.epochs
    return range(
        last - 1 if method.predicts == "span" and request.span == "last_epoch" else 0, last
    )
