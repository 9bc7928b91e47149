"""SGD-influence and its kin: one retracing, with the parameters taken from the replay or from the end (influence.md, sections 2 to 5)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from worker.engine import data
from worker.engine.optimizers import initial_state
from worker.engine.retrace import PASS, TrainingStep, products, retrace
from worker.engine.scores import trust
from worker.engine.scores.asked import Asked

# Steps of an epoch at which marginal influence looks at every image: M of section 5.
SAMPLED_STEPS = 8


def sgd_influence(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """Influence of each image's own draws along the replayed run, (N,) (Hara et al. 2019, algorithm 1)."""
    return _retraced(asked, _replayed(asked))


def final_params(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """The same with θ_T in place of every θ_t, (N,) (Suzuki et al. 2021, section 3)."""
    last = asked.replay.final_params()
    run = asked.replay.run

    def steps() -> Iterator[TrainingStep]:
        state = {key: torch.zeros_like(value) for key, value in _state_of(asked).items()}
        for epoch in asked.epochs:
            order = data.batches(run.recipe, run.images, epoch)
            for t in reversed(range(len(order))):
                x, y = run.batch(epoch, order[t])
                yield TrainingStep(last, state, x, y, torch.from_numpy(order[t]), run.rate(epoch, t))

    return _retraced(asked, steps())


def marginal_influence(asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
    """Influence averaged over the step of its epoch that draws the image, the trajectory held fixed, (N,) (influence.md, section 5)."""
    run = asked.replay.run
    count, steps = len(run.images), run.steps
    values = np.zeros(count)
    sampled = set(np.unique(np.linspace(0, steps - 1, min(SAMPLED_STEPS, steps)).round().astype(int)).tolist())
    seen = 0

    def look(step: TrainingStep, direction: torch.Tensor) -> None:
        nonlocal seen
        epoch, t = asked.epochs[seen // steps], steps - 1 - seen % steps
        seen += 1
        if t not in sampled:
            return
        for start in range(0, count, PASS):
            positions = np.arange(start, min(start + PASS, count))
            x, y = run.batch(epoch, positions)
            values[positions] -= products(run.network, step.params, direction, x, y).double().numpy() / (len(step.y) * len(sampled))

    _, report = _retraced(asked, _replayed(asked), look)
    return values, report | {"sampled_steps": len(sampled)}


def _state_of(asked: Asked) -> dict[str, torch.Tensor]:
    return initial_state(asked.replay.run.recipe, asked.replay.final_params())


def _replayed(asked: Asked) -> Iterator[TrainingStep]:
    for epoch in asked.epochs:
        yield from asked.replay.epoch(epoch)


def _retraced(asked: Asked, steps: Iterator[TrainingStep], look: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Retrace the span: influence (N,) and the report on how far to trust it."""
    run = asked.replay.run
    total = run.steps * len(asked.epochs)
    influence = torch.zeros(len(run.images), dtype=torch.float64)
    adjoint = trust.validation_gradient(run.network, run.recipe, asked.replay.final_params(), asked.validation)
    state_adjoint = {key: torch.zeros_like(value) for key, value in _state_of(asked).items()}
    first_norm = float(adjoint.norm())
    checks: list[float] = []

    def after_step(step: TrainingStep, direction: torch.Tensor) -> None:
        if not checks:
            checks.append(trust.finite_difference_error(run.network, step, direction))
        if look is not None:
            look(step, direction)

    def counted() -> Iterator[TrainingStep]:
        for done, step in enumerate(steps):
            asked.progress(done, total)
            yield step

    adjoint, _ = retrace(
        run.network, run.update, counted(), adjoint, state_adjoint, influence, damping=asked.damping, after_step=after_step
    )
    asked.progress(total, total)
    values = influence.numpy()
    report: dict[str, Any] = {
        "adjoint_growth": float(adjoint.norm()) / max(first_norm, 1e-30),
        "finite_difference_error": checks[0],
        "span": asked.span,
        "damping": asked.damping,
    }
    return values, report | trust.top_group(asked, values)
