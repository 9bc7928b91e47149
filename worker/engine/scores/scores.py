"""What a scoring gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """values: (N,) float64, low first. exact: whether they are what the method says, not an approximation of it. report: see the README.

    images: digest of the image list that they are for. run: which run they come from (its recipe, list and last parameters); empty for an average.
    """

    values: np.ndarray
    method: str
    exact: bool
    report: dict[str, Any]
    images: str
    run: str
