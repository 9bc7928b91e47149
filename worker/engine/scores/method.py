"""What every method is handed, and what a method is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

import numpy as np

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


@dataclass(frozen=True)
class Method:
    """A method: how it is computed, what it says to a person, and what it costs.

    looks: how many images the network looks at for it, and in which way. needs: of the run, all its steps, the parameters at each epoch's
    end, those at the end of all, or nothing but what training recorded. options: its own settings with their defaults; one whose default is
    whole counts something. below: what an option must stay below. predicts: its values are changes of the validation loss, "span" when the
    epochs of the span are repeated without an image, "run" when the whole run is. spans: whether the span makes a difference. damps: whether
    it knows damping. exact: whether it computes what it says, or approximates it.
    """

    run: Callable[[Asked], Scored]
    meaning: str
    looks: Callable[[Sizes], Looks]
    needs: Literal["steps", "epochs", "end", "nothing"]
    options: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)
    predicts: Literal["", "span", "run"] = ""
    spans: bool = False
    damps: bool = False
    exact: bool = True

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
