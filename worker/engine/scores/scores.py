"""The result of a scoring."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of N images.

    Args:
        values: (N,) float64, low first.
        method: its name.
        exact: True if they are what the method says, not an approximation of it.
        report: see the README.
        images: digest of the image list.
        run: digest of recipe and image list; empty for an average.
    """

    values: np.ndarray
    method: str
    exact: bool
    report: dict[str, Any]
    images: str
    run: str
