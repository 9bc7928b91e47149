"""What a run leaves on disk, and how its steps are had back in reverse within a memory budget (influence.md, section 4).

A folder holds `run.json` (recipe, image list, environment, epoch hashes, history) and, depending on the store, parameters:

    epoch_starts   epoch-0000.safetensors …: θ and the optimizer's state at each epoch's start, and at the end
    every_step     the same, and steps-0000.safetensors …: θ and state before every step of an epoch
    recipe         nothing: θ_0 comes from the seed, everything else is replayed
    final_params   the last parameters only: the second paper's approximation

Files appear under their final name only when they are whole, and an epoch's file is written last: it is the point from which a run resumes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from worker.engine.errors import EngineError
from worker.engine.optimizers import State
from worker.engine.recipe import Recipe

STORES = ("epoch_starts", "every_step", "recipe", "final_params")

Point = tuple[torch.Tensor, State]  # θ_t and s_t
# Progress through a long computation: steps done, steps in all. May raise to stop it.
Progress = Callable[[int, int], None]
# Makes step t of an epoch: advance(point, t).
Advance = Callable[[Point, int], Point]


@dataclass(frozen=True)
class EpochReport:
    """What one epoch (from 1) measured. Losses are means, accuracies fractions; `params_hash` is of the parameters at its end."""

    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    params_hash: str


@dataclass
class RunRecord:
    """run.json: what fixes a run and what it measured so far."""

    recipe: Recipe
    store: str
    images: str  # digest of the image list
    left_out: str  # digest of the images whose terms are dropped; empty for none
    count: int  # N
    environment: dict[str, str]
    history: list[EpochReport] = field(default_factory=list)

    def to_json(self) -> str:
        values = {**self.__dict__, "recipe": json.loads(self.recipe.to_json()), "history": [asdict(report) for report in self.history]}
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        values: dict[str, Any] = json.loads(text)
        values["recipe"] = Recipe.from_json(json.dumps(values["recipe"]))
        values["history"] = [EpochReport(**report) for report in values["history"]]
        return cls(**values)


def environment() -> dict[str, str]:
    """What bit-for-bit repetition hangs on besides the recipe."""
    return {
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "device": "cpu",
    }


def params_hash(params: torch.Tensor) -> str:
    """SHA-256 of the parameters' bytes."""
    return hashlib.sha256(params.detach().contiguous().numpy().tobytes()).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either absent or whole, whatever happens."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def epoch_file(folder: Path, epoch: int) -> Path:
    """θ and s at the start of epoch `epoch` (from 0)."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def steps_file(folder: Path, epoch: int) -> Path:
    """θ_t and s_t of every step of epoch `epoch` (from 0)."""
    return folder / f"steps-{epoch:04d}.safetensors"


def margins_file(folder: Path, epoch: int) -> Path:
    """Sums of the margins over the epochs before `epoch`, (N,) float64."""
    return folder / f"margins-{epoch:04d}.npy"


def write_point(path: Path, point: Point) -> None:
    """Save θ and s."""
    params, state = point
    write_whole(path, save({"params": params.contiguous(), **{f"state.{key}": value.contiguous() for key, value in state.items()}}))


def read_point(path: Path) -> Point:
    """Load θ and s. Raises EngineError where the file is missing or damaged."""
    tensors = _load(path)
    return tensors.pop("params"), {key.removeprefix("state."): value for key, value in tensors.items()}


def write_steps(path: Path, points: list[Point]) -> None:
    """Save θ_t and s_t of all steps of an epoch, stacked along a first axis."""
    write_point(path, (torch.stack([p for p, _ in points]), {key: torch.stack([s[key] for _, s in points]) for key in points[0][1]}))


def read_steps(path: Path) -> list[Point]:
    """The inverse of `write_steps`."""
    params, state = read_point(path)
    return [(params[t], {key: value[t] for key, value in state.items()}) for t in range(len(params))]


def write_margins(path: Path, margins: np.ndarray) -> None:
    """Save the margins' sums, whole or not at all."""
    part = path.with_name(path.name + ".part.npy")
    np.save(part, margins, allow_pickle=False)
    part.replace(path)


def read_margins(path: Path) -> np.ndarray:
    """Load the margins' sums. Raises EngineError where the file is missing or damaged."""
    try:
        result: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EngineError(f"The run's file {path.name} is missing or damaged; train this run again.") from error
    return result


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise EngineError(f"The run's file {path.name} is missing or damaged; train this run again.") from error


def read_record(folder: Path) -> RunRecord | None:
    """run.json, or None where no run was begun. Raises EngineError where it is damaged."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return RunRecord.from_json(path.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("The run's file run.json is damaged; train this run again.") from error


def stored_bytes(folder: Path) -> int:
    """Bytes of the trajectory on disk."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def prune(folder: Path, store: str, epochs: int) -> None:
    """Delete what the store does not keep once a run is complete."""
    kept = range(epochs + 1) if store in ("epoch_starts", "every_step") else range(epochs, epochs + (store == "final_params"))
    for epoch in range(epochs + 1):
        if epoch not in kept:
            epoch_file(folder, epoch).unlink(missing_ok=True)


def point_bytes(point: Point) -> int:
    """Bytes of θ and s together."""
    params, state = point
    return sum(t.numel() * t.element_size() for t in (params, *state.values()))


def backwards(start: Point, steps: int, budget: int, advance: Advance, arrived: Callable[[Point], None]) -> Iterator[tuple[int, Point]]:
    """The points (t, (θ_t, s_t)) of an epoch, last first, replayed from its start within `budget` bytes.

    advance(point, t) makes step t. arrived(point) is called once with the epoch's end, to be checked. Every k-th point is kept and one
    segment at a time is replayed, so that at most steps/k + k points are in memory; k = steps, and so a single replay, where that fits.

    Raises EngineError where the budget does not hold two points.
    """
    room = budget // point_bytes(start)
    if room < 2:
        raise EngineError(
            f"The memory budget of {budget:,} bytes is below two sets of parameters ({2 * point_bytes(start):,} bytes); allow more."
        )
    stride = _stride(steps, room)
    kept: dict[int, Point] = {}
    point = start
    last: list[Point] = []
    for t in range(steps):
        if t % stride == 0:
            kept[t] = point
            last = []
        last.append(point)
        point = advance(point, t)
    arrived(point)
    for first in sorted(kept, reverse=True):
        segment = last if first + stride >= steps else _segment(kept.pop(first), first, stride, advance)
        for t in reversed(range(first, first + len(segment))):
            yield t, segment.pop()


def _segment(start: Point, first: int, stride: int, advance: Advance) -> list[Point]:
    points = [start]
    for t in range(first, first + stride - 1):
        points.append(advance(points[-1], t))
    return points


def _stride(steps: int, room: int) -> int:
    """The longest segment with which kept points and one segment fit into `room` points; the best there is where none fits."""
    fitting = [k for k in range(1, steps + 1) if -(-steps // k) + k <= room + 1]
    if fitting:
        return fitting[-1]
    raise EngineError(
        f"The memory budget holds {room} sets of parameters, and an epoch of {steps} steps needs {2 * int(steps**0.5) + 1}; allow more."
    )
