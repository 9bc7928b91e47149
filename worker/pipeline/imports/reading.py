"""Conversion of a data set's pictures to 8 bits: decided once, the same for each picture."""

from dataclasses import dataclass, field
from enum import IntFlag

WHITE, GREY, BLACK = 255, 128, 0
Range = tuple[float, float]


class Mark(IntFlag):
    """Remarks on a picture's conversion to 8 bits."""

    FRAMES = 1  # the first of several frames or pages
    TRANSPARENT = 2
    SIXTEEN_BIT = 4
    THIRTY_TWO_BIT = 8
    FLOAT = 16
    NOT_FINITE = 32
    PLAIN = 64  # a single colour only after the conversion
    FEW_LEVELS = 128


# A plain number: flags are slow, and each picture is asked.
DEEP = int(Mark.SIXTEEN_BIT | Mark.THIRTY_TWO_BIT | Mark.FLOAT)


@dataclass(frozen=True)
class Reading:
    """Values that become black and white, by kind of value, and the ground of transparency."""

    ranges: dict[int, Range] = field(default_factory=dict)
    ground: int = WHITE

    def fits(self, marks: int) -> bool:
        """Tell if the range of a picture's values is decided."""
        kind = marks & DEEP
        return not kind or kind in self.ranges


@dataclass(frozen=True)
class Sample:
    """A picture in a survey: its values, and the grounds that would swallow it."""

    values: list[float]
    swallowed_by: list[int]
