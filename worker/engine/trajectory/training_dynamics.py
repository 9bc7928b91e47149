"""Training dynamics: margins and forgetting events."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worker.engine.errors import EngineError
from worker.engine.images import Integers
from worker.engine.trajectory.files import damaged_error, read_tensors, write_tensors

# Forgetting count of an image that was never right.
NEVER = -1


@dataclass
class Signals:
    """Training dynamics of N images.

    Args:
        margins: sums over epochs, (N,) float64.
        forgotten: turns from right to wrong, (N,) int32; NEVER before any hit.
        right: last prediction was right, (N,) bool.
    """

    margins: np.ndarray
    forgotten: np.ndarray
    right: np.ndarray

    @classmethod
    def empty(cls, count: int) -> "Signals":
        return cls(
            np.zeros(count), np.full(count, NEVER, dtype=np.int32), np.zeros(count, dtype=bool)
        )

    def add(self, positions: Integers, margins: np.ndarray, right: np.ndarray) -> None:
        """Add images that an epoch saw, at unique positions; all (B,)."""
        self.margins[positions] += margins
        before, counts = self.right[positions], self.forgotten[positions]
        counts = np.where(right & (counts == NEVER), 0, counts)
        self.forgotten[positions] = counts + (before & ~right)
        self.right[positions] = right


class EpochSignals:
    """An epoch's losses, margins and hits on the device, in step order."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.losses, self.margins = (torch.empty(count, device=device) for _ in range(2))
        self.right = torch.empty(count, dtype=torch.bool, device=device)
        self.count = 0

    def add_step(self, logits: torch.Tensor, losses: torch.Tensor, y: torch.Tensor) -> None:
        """Add a step: logits (B, classes), losses (B,) and labels (B,)."""
        here = slice(self.count, self.count + len(y))
        self.losses[here] = losses
        self.margins[here] = margin(logits, y)
        self.right[here] = logits.argmax(1) == y
        self.count += len(y)

    def finish(self, signals: Signals, positions: Integers) -> tuple[float, float]:
        """Add the epoch, positions in step order; return mean loss and accuracy.

        Of an image that an epoch draws twice, the later draw counts.
        """
        unique, last = np.unique(positions[::-1], return_index=True)
        drawn = len(positions) - 1 - last
        signals.add(
            unique, self.margins.double().cpu().numpy()[drawn], self.right.cpu().numpy()[drawn]
        )
        return float(self.losses.double().mean()), float(self.right.double().mean())


def margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Label's logit minus the largest other, (B,) (Pleiss et al. 2020, eq. 1)."""
    label_logit = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (label_logit - others.max(1, keepdim=True).values).squeeze(1)


def signals_file(folder: Path, epoch: int) -> Path:
    """Path of the signals before `epoch`."""
    return folder / f"signals-{epoch:04d}.safetensors"


def write_signals(path: Path, signals: Signals, run: str) -> None:
    write_tensors(
        path, {name: torch.from_numpy(values) for name, values in vars(signals).items()}, run
    )


def read_signals(path: Path, count: int, run: str) -> Signals:
    """Load the signals of `count` images.

    Raises:
        EngineError: missing, damaged or another run's.
    """
    tensors = read_tensors(path, run)
    if set(tensors) != set(Signals.__dataclass_fields__):
        raise damaged_error(path)
    signals = Signals(**{name: values.numpy() for name, values in tensors.items()})
    if len(signals.margins) != count:
        raise EngineError(
            f"The run's file {path.name} is about another number of images; train again in another "
            "folder."
        )
    return signals
