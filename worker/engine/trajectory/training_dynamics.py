"""What a training sees of each image by the way: its margin, and whether it is learned, forgotten and learned again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worker.engine.errors import EngineError
from worker.engine.images import Integers
from worker.engine.trajectory.files import damaged, read_tensors, write_tensors

# The forgetting count of an image that was never classified as its label says.
NEVER = -1


@dataclass
class Signals:
    """Of N images, over the epochs so far; each image is seen once an epoch.

    margins: sums of the margins, (N,) float64. forgotten: how often an image went from right to wrong, NEVER until it was right once,
    (N,) int32. right: whether it was right when last seen, (N,) bool.
    """

    margins: np.ndarray
    forgotten: np.ndarray
    right: np.ndarray

    @classmethod
    def none(cls, count: int) -> "Signals":
        """Before the first epoch."""
        return cls(
            np.zeros(count), np.full(count, NEVER, dtype=np.int32), np.zeros(count, dtype=bool)
        )

    def see(self, positions: Integers, margins: np.ndarray, right: np.ndarray) -> None:
        """Add what an epoch, or a part of it, saw of the images at `positions` (B,), each once: margins (B,) and whether right (B,)."""
        self.margins[positions] += margins
        before, counts = self.right[positions], self.forgotten[positions]
        counts = np.where(right & (counts == NEVER), 0, counts)
        self.forgotten[positions] = counts + (before & ~right)
        self.right[positions] = right


class Seen:
    """What the steps of one epoch of N images see, in the order of the steps, kept on the device."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.losses, self.margins = (torch.empty(count, device=device) for _ in range(2))
        self.right = torch.empty(count, dtype=torch.bool, device=device)
        self.count = 0

    def step(self, logits: torch.Tensor, losses: torch.Tensor, y: torch.Tensor) -> None:
        """Add a step's logits (B, classes) and losses (B,) of images with labels y (B,)."""
        here = slice(self.count, self.count + len(y))
        self.losses[here] = losses
        self.margins[here] = margin(logits, y)
        self.right[here] = logits.argmax(1) == y
        self.count += len(y)

    def add_to(self, signals: Signals, positions: Integers) -> tuple[float, float]:
        """Add all to `signals`; returns the mean loss and the accuracy. positions: the images in the order of the steps, (N,)."""
        signals.see(positions, self.margins.double().cpu().numpy(), self.right.cpu().numpy())
        return float(self.losses.double().mean()), float(self.right.double().mean())


def margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The given label's logit minus the largest other one, (B,) (Pleiss et al. 2020, equation 1)."""
    given = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (given - others.max(1, keepdim=True).values).squeeze(1)


def signals_file(folder: Path, epoch: int) -> Path:
    """Signals of the epochs before `epoch`."""
    return folder / f"signals-{epoch:04d}.safetensors"


def write_signals(path: Path, signals: Signals, run: str) -> None:
    """Save signals, whole or not at all. run: the run that saw them (`RunRecord.run`)."""
    write_tensors(
        path, {name: torch.from_numpy(values) for name, values in vars(signals).items()}, run
    )


def read_signals(path: Path, count: int, run: str) -> Signals:
    """Load the signals of `count` images. Raises EngineError where the file is missing, damaged or another run's."""
    tensors = read_tensors(path, run)
    if set(tensors) != set(Signals.__dataclass_fields__):
        raise damaged(path)
    signals = Signals(**{name: values.numpy() for name, values in tensors.items()})
    if len(signals.margins) != count:
        raise EngineError(
            f"The run's file {path.name} speaks of another number of images; train again in another folder."
        )
    return signals
