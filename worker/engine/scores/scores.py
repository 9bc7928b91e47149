"""The result of a scoring."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of N images.

    Args:
        values: (N,) float64, low first.
        exact: False for an approximation of the method.
        report: see worker/engine/README.md.
        images: digest of the image list.
        run: digest of recipe and image list; empty for an average.
    """

    values: np.ndarray
    method: str
    exact: bool
    report: dict[str, Any]
    images: str
    run: str
