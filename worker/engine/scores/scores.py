"""The result of a scoring."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.engine.scores.errors import standard_errors, upper_bounds


@dataclass(frozen=True)
class Scores:
    """Scores of N images.

    Args:
        values: (N,) float64, low first.
        exact: False for an approximation of the method.
        report: see worker/engine/README.md.
        images: digest of the image list.
        run: digest of recipe and image list; empty for an average.
        group_values: (N, K) float32, by each group of validation images alone, or None.
        relabelling: (N, classes) float32, the change of the validation loss if an image had
            another label (0 for its own, negative for the better), or None.
    """

    values: np.ndarray
    method: str
    exact: bool
    report: dict[str, Any]
    images: str
    run: str
    group_values: np.ndarray | None = None
    relabelling: np.ndarray | None = None

    @property
    def errors(self) -> np.ndarray | None:
        """Standard errors of the values over validation images, (N,), or None."""
        return None if self.group_values is None else standard_errors(self.group_values)

    @property
    def bounds(self) -> np.ndarray:
        """Values to rank by, (N,): upper bounds where errors are known, so that luck ranks last."""
        errors = self.errors
        return self.values if errors is None else upper_bounds(self.values, errors)

    @property
    def better_labels(self) -> np.ndarray:
        """The class that would help most as an image's label, (N,).

        −1 unless it lowers the validation loss, and by more than leaving the image out.
        """
        if self.relabelling is None:
            return np.full(len(self.values), -1)
        best = self.relabelling.argmin(1)
        change = self.relabelling[np.arange(len(best)), best]
        return np.where(change < np.minimum(self.values, 0), best, -1)
