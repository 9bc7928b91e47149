"""A sample of the pictures, which decides the conversion of all of them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from worker.pipeline.imports.messages import Answer, Decoded
from worker.pipeline.imports.reading import BLACK, DEEP, GREY, WHITE, Mark, Range, Reading

LOWEST, HIGHEST = 0.1, 99.9  # percentiles that become black and white
# Of the transparent pictures; with fewer swallowed by white, white it stays.
SWALLOWED = 0.05
# With fewer, the others of their kind are looked for.
ENOUGH_DEEP = 32


@dataclass
class Survey:
    """Collects what was seen, and decides the reading."""

    values: dict[int, list[np.ndarray]] = field(default_factory=dict)
    transparent: int = 0
    swallowed: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Add the answer to a survey's work."""
        samples = iter(answer.samples)
        for image in answer.images:
            if not isinstance(image, Decoded):
                continue
            kind = image.marks & DEEP
            if not kind and not image.marks & Mark.TRANSPARENT:
                continue
            sample = next(samples)
            if kind:
                self.values.setdefault(kind, []).append(np.asarray(sample.values))
            else:
                self.transparent += 1
                for ground in sample.swallowed_by:
                    self.swallowed[ground] += 1

    def lacks(self, pictures: int, surveyed: int) -> bool:
        """Tell if too few of the deep pictures were seen to decide for all."""
        seen = [len(values) for values in self.values.values()]
        return pictures > surveyed and any(count < ENOUGH_DEEP for count in seen)

    def forget_values(self) -> None:
        self.values.clear()

    def reading(self) -> Reading:
        ranges = {kind: _range(kind, values) for kind, values in self.values.items()}
        return Reading(ranges, self._ground())

    def _ground(self) -> int:
        if self.swallowed[WHITE] <= SWALLOWED * self.transparent:
            return WHITE
        return min((BLACK, GREY, WHITE), key=lambda ground: self.swallowed[ground])


def _range(kind: int, values: Iterable[np.ndarray]) -> Range:
    low, high = np.percentile(np.concatenate(list(values)), (LOWEST, HIGHEST))
    if kind != Mark.FLOAT:
        low, high = np.floor(low), np.ceil(high)
    return float(low), float(high if high > low else low + 1)
