"""What every method is handed, and what a method is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.images import Images
from worker.engine.influence.replay import Replay
from worker.engine.recipe import Recipe, check_span
from worker.engine.scores.cost import Cost, Looks, Sizes, cost_of
from worker.engine.sweep import Progress


@dataclass(frozen=True)
class Asked:
    """One scoring as asked for. span: the epochs to look at. damping: δ of the retracing. options: the method's own."""

    replay: Replay
    validation: Images
    span: str
    damping: float
    progress: Progress
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> list[int]:
        """The epochs of the span (from 0), last first."""
        last = self.replay.run.recipe.epochs - 1
        return [last] if self.span == "last_epoch" else list(range(last, -1, -1))


# A score for each image, (N,) float64, low first, and what to report of it.
Scored = tuple[np.ndarray, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Method(catalogue.Method):
    """A method of the catalogue with its functions attached (see `attach`)."""

    run: Callable[[Asked], Scored]
    looks: Callable[[Sizes], Looks]
    options: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)

    @property
    def replays(self) -> bool:
        """Whether it replays the run's steps."""
        return self.needs == "steps"

    def cost(self, recipe: Recipe, count: int, span: str = "last_epoch", **further: Any) -> Cost:
        """What scoring `count` images of a run of `recipe` costs; further: the other fields of `Sizes`, options among them.

        Raises EngineError for a span or an option that there is not.
        """
        check_span(span)
        options = self.with_defaults(further.pop("options", {}))
        return cost_of(
            self.looks,
            self.needs,
            self.predicts,
            Sizes(recipe, count, span, options=options, **further),
        )

    def with_defaults(self, asked: Mapping[str, float]) -> dict[str, float]:
        """All options of the method, as asked for or by default. Raises EngineError for one that there is not, or a value that makes no sense."""
        for name, value in asked.items():
            if name not in self.options:
                raise EngineError(
                    f"The method has no option called {name!r}; its options: {', '.join(self.options) or 'none'}."
                )
            if not isinstance(value, Real) or not math.isfinite(value) or not value > 0:
                raise EngineError(f"The option {name} must be a number above 0, not {value!r}.")
            if isinstance(self.options[name], int) and value != int(value):
                raise EngineError(
                    f"The option {name} counts something, so it must be a whole number of at least 1, not {value!r}."
                )
            if not value < self.below.get(name, math.inf):
                raise EngineError(
                    f"The option {name} must be below {self.below[name]:g}, not {value!r}."
                )
        return {**self.options, **asked}


def attach(
    name: str,
    run: Callable[[Asked], Scored],
    looks: Callable[[Sizes], Looks],
    *,
    options: Mapping[str, float] | None = None,
    below: Mapping[str, float] | None = None,
) -> Method:
    """Attach functions to the facts of a method.

    Args:
        name: The method in the catalogue.
        run: Computes the scores and what to report of them.
        looks: Counts the images that the network looks at for it, by kind of look.
        options: The method's settings with their defaults; a whole default counts something.
        below: What an option must stay below.
    """
    facts = vars(catalogue.METHODS[name])
    return Method(**facts, run=run, looks=looks, options=options or {}, below=below or {})
