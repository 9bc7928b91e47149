"""Methods, and requests to score."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.images import Images
from worker.engine.influence.replay import Replay
from worker.engine.recipe import Recipe, check_span
from worker.engine.scores.cost import Cost, ImagePasses, Sizes, cost_of
from worker.engine.scores.errors import Groups
from worker.engine.sweep import Progress


@dataclass(frozen=True)
class ScoringRequest:
    """A request to score.

    Args:
        damping: δ.
        progress: called as progress(done, total); may raise to stop.
        groups: of the validation images, for the values' errors; None for no errors.
    """

    replay: Replay
    validation: Images
    span: str
    damping: float
    progress: Progress
    options: Mapping[str, float] = field(default_factory=dict)
    groups: Groups | None = None

    @property
    def epochs(self) -> list[int]:
        """Epochs of the span from 0, last first."""
        last = self.replay.run.recipe.epochs - 1
        return [last] if self.span == "last_epoch" else list(range(last, -1, -1))


class ScoresAndReport(NamedTuple):
    """Result of a method.

    Args:
        values: (N,) float64, low first.
        group_values: (N, K) float32, by each group of validation images alone, or None.
        relabelling: (N, classes) float32, the change of the validation loss if an image had
            another label (0 for its own), or None.
    """

    values: np.ndarray
    report: dict[str, Any]
    group_values: np.ndarray | None = None
    relabelling: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Method(catalogue.Method):
    """A catalogue method with its functions."""

    run: Callable[[ScoringRequest], ScoresAndReport]
    image_passes: Callable[[Sizes], ImagePasses]
    options: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)

    @property
    def replays(self) -> bool:
        return self.needs == "steps"

    def cost(self, recipe: Recipe, count: int, span: str = "last_epoch", **further: Any) -> Cost:
        """Estimate the cost of scoring a run.

        Args:
            count: N.
            span: "last_epoch" or "all_epochs".
            further: other fields of `Sizes`.

        Raises:
            EngineError: unknown span or option.
        """
        check_span(span)
        options = self.with_defaults(further.pop("options", {}))
        return cost_of(
            self.image_passes,
            self.needs,
            self.predicts,
            Sizes(recipe, count, span, options=options, **further),
        )

    def with_defaults(self, options: Mapping[str, float]) -> dict[str, float]:
        """Complete the options. Raises EngineError for a bad name or value."""
        for name, value in options.items():
            if name not in self.options:
                raise EngineError(
                    f"The method has no option called {name!r}; its options: "
                    f"{', '.join(self.options) or 'none'}."
                )
            if not isinstance(value, Real) or not math.isfinite(value) or not value > 0:
                raise EngineError(f"The option {name} must be a number above 0, not {value!r}.")
            if isinstance(self.options[name], int) and value != int(value):
                raise EngineError(
                    f"The option {name} counts something, so it must be a whole number of at least "
                    f"1, not {value!r}."
                )
            if not value < self.below.get(name, math.inf):
                raise EngineError(
                    f"The option {name} must be below {self.below[name]:g}, not {value!r}."
                )
        return {**self.options, **options}


def attach(
    name: str,
    run: Callable[[ScoringRequest], ScoresAndReport],
    image_passes: Callable[[Sizes], ImagePasses],
    *,
    options: Mapping[str, float] | None = None,
    below: Mapping[str, float] | None = None,
) -> Method:
    """Attach functions to a catalogue method.

    Args:
        options: defaults; integers allow only whole numbers.
        below: exclusive upper limits.
    """
    facts = vars(catalogue.METHODS[name])
    return Method(
        **facts, run=run, image_passes=image_passes, options=options or {}, below=below or {}
    )
