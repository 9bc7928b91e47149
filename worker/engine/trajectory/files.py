"""What a run leaves on disk, and how its steps are had back in reverse within a memory budget (influence.md, section 4).

A folder holds `run.json` (recipe, image list, environment, epoch hashes, history) and, depending on the store, parameters:

    epoch_starts   epoch-0000.safetensors …: θ and the optimizer's state at each epoch's start, and at the end
    every_step     the same, and steps-0000.safetensors …: θ and state before every step of an epoch
    recipe         nothing: θ_0 comes from the seed, everything else is replayed
    final_params   the last parameters only: the second paper's approximation

Files appear under their final name only when they are whole, and an epoch's file is written last: it is the point from which a run resumes.
"""

import hashlib
import itertools
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from worker.engine.errors import EngineError
from worker.engine.optimizers import State
from worker.engine.recipe import Recipe

# Sets of parameters that walking an epoch backwards holds at least: the start, a later point, and the one that is being made.
LEAST_ROOM = 3
# What torch's own memory begins at multiples of. A budget does not count what this leaves empty.
ALIGNED_BYTES = {"cpu": 64, "cuda": 512}

STORES = ("epoch_starts", "every_step", "recipe", "final_params")

Point = tuple[torch.Tensor, State]  # θ_t and s_t
# Progress through a long computation: steps done, steps in all. May raise to stop it.
Progress = Callable[[int, int], None]
# Makes step t of an epoch: advance(point, t).
Advance = Callable[[Point, int], Point]
# Told where a replay ended.
Arrived = Callable[[Point], None]


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
    # Hashes of the parameters after the first step of each epoch: a replay that drifts shows it at once.
    first_steps: list[str] = field(default_factory=list)
    # Hash of θ_0; and of a network of one's own its answers to trial images at the end, as its name may mean another one by now.
    start: str = ""
    answers: list[list[float]] = field(default_factory=list)

    @property
    def run(self) -> str:
        """SHA-256 of what fixes the run: stands in each of its files, so that a file of another run is known for one."""
        return hashlib.sha256(f"{self.recipe.digest()}/{self.images}/{self.left_out}".encode()).hexdigest()

    def to_json(self) -> str:
        values = {**self.__dict__, "recipe": json.loads(self.recipe.to_json()), "history": [asdict(report) for report in self.history]}
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        values: dict[str, Any] = json.loads(text)
        values["recipe"] = Recipe.from_json(json.dumps(values["recipe"]))
        values["history"] = [EpochReport(**report) for report in values["history"]]
        int(values["environment"]["threads"])  # refuses a damaged file here, not hours later in a replay
        return cls(**values)


def params_hash(params: torch.Tensor) -> str:
    """SHA-256 of the parameters' bytes."""
    return hashlib.sha256(params.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


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


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], run: str) -> None:
    """Save tensors, whole or not at all, with their checksum. run: the run they belong to (`RunRecord.run`)."""
    # One entry: of several, safetensors writes now the one and now the other first, and equal runs would have unequal files.
    here = {key: value.cpu().contiguous() for key, value in tensors.items()}
    write_whole(path, save(here, {"proof": f"{run} {_crc32(here)}"}))


def read_tensors(path: Path, run: str) -> dict[str, torch.Tensor]:
    """Load tensors. Raises EngineError where the file is missing, damaged, or another run's."""
    try:
        with safe_open(path, framework="pt") as file:
            of, _, check = (file.metadata() or {}).get("proof", "").partition(" ")
            # Copies, which lie as torch lays tensors out: where numbers begin in memory decides how sums are split, and so their last bits.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise damaged(path) from error
    if check != _crc32(tensors):
        raise damaged(path)
    check_run(path, of, run)
    return tensors


def check_run(path: Path, of: str, run: str) -> None:
    """Raises EngineError where a file names another run than this."""
    if of != run:
        raise EngineError(
            f"The file {path.name} belongs to a run of another recipe or image list; put back the one of this run, or train again."
        )


def damaged(path: Path) -> EngineError:
    """What to say of a file that does not hold what was written."""
    return EngineError(f"The run's file {path.name} is missing or damaged; train again in another folder.")


def _crc32(tensors: dict[str, torch.Tensor]) -> str:
    check = 0
    for key in sorted(tensors):
        check = zlib.crc32(tensors[key].numpy().tobytes(), zlib.crc32(key.encode(), check))
    return f"{check:08x}"


def write_point(path: Path, point: Point, run: str) -> None:
    """Save θ and s. run: the run they belong to (`RunRecord.run`)."""
    params, state = point
    write_tensors(path, {"params": params, **{f"state.{key}": value for key, value in state.items()}}, run)


def read_point(path: Path, run: str) -> Point:
    """Load θ and s. Raises EngineError where the file is missing, damaged, or another run's."""
    tensors = read_tensors(path, run)
    if "params" not in tensors:
        raise damaged(path)
    return tensors.pop("params"), {key.removeprefix("state."): value for key, value in tensors.items()}


def placed(point: Point, device: torch.device) -> Point:
    """θ and s on a device."""
    params, state = point
    return params.to(device), {key: value.to(device) for key, value in state.items()}


def read_record(folder: Path) -> RunRecord | None:
    """run.json, or None where no run was begun. Raises EngineError where it is damaged."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return RunRecord.from_json(path.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("The run's file run.json is damaged; train again in another folder.") from error


def stored_bytes(folder: Path | str) -> int:
    """Bytes of the trajectory on disk."""
    return sum(path.stat().st_size for path in Path(folder).glob("*") if path.is_file())


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


def backwards(start: Point, steps: int, room: int, advance: Advance, arrived: Arrived) -> Iterator[tuple[int, Point]]:
    """The points (t, (θ_t, s_t)) of an epoch, last first, replayed from its start with at most `room` of them in memory, three or more.

    That is as long as nobody holds a point while asking for the next.
    Where not all fit, some are kept on the way and what lies between them is replayed when its turn comes, by the schedule that repeats the
    fewest steps (Griewank and Walther 2000, Algorithm 799: Revolve). advance(point, t) makes step t. arrived(point) is called once with the
    epoch's end, to be checked.
    """
    points = _Points(start, min(steps, room - 1))
    points.push(start)
    del start
    kept = [0]  # where the points before the last stretch are
    last = steps
    while kept:
        first = kept[-1]
        # One of the room is for the point that is being made.
        while last - first > (free := room - len(kept)):
            ahead = _ahead(last - first, free)
            points.push(advance(points.last(), first))
            for t in range(first + 1, first + ahead):
                points.replace(advance(points.last(), t))
            first += ahead
            kept.append(first)
        kept.pop()
        for t in range(first, last - 1):
            points.push(advance(points.last(), t))
        if last == steps:
            arrived(advance(points.last(), last - 1))
        for t in reversed(range(first, last)):
            yield t, points.pop()
        last = first


class _Points:
    """θ's and optimizer states, last in, first out, in memory that is taken once.

    One by one they would lie in the heap between the batches, and tear it into pieces that the next ones do not fit into (docs/decisions/0022).
    """

    def __init__(self, like: Point, most: int) -> None:
        self._params = _rows(like[0], most)
        self._state = {name: _rows(tensor, most) for name, tensor in like[1].items()}
        self._count = 0

    def push(self, point: Point) -> None:
        """Keep a copy of one more."""
        self._count += 1
        self.replace(point)

    def replace(self, point: Point) -> None:
        """Keep a copy in the place of the last one."""
        params, state = point
        self._params[self._count - 1] = params
        for name, rows in self._state.items():
            rows[self._count - 1] = state[name]

    def last(self) -> Point:
        """The last one, to be read only, until it is popped."""
        return self._params[self._count - 1], {name: rows[self._count - 1] for name, rows in self._state.items()}

    def pop(self) -> Point:
        """The last one. A copy: for a tangent of a view, torch takes as much memory as for all that it is a view of."""
        params, state = self.last()
        self._count -= 1
        return params.clone(), {name: tensor.clone() for name, tensor in state.items()}


def _rows(like: torch.Tensor, most: int) -> torch.Tensor:
    """Memory for `most` tensors of a kind, each aligned as one that is made alone: libraries of matrix products may round by that."""
    aligned = ALIGNED_BYTES[like.device.type] // like.element_size()
    rows = torch.empty(most, -(-like.numel() // aligned) * aligned, dtype=like.dtype, device=like.device)
    return rows[:, : like.numel()].unflatten(1, like.shape) if like.dim() else rows[:, 0]


def _ahead(steps: int, free: int) -> int:
    """How far before the next kept point, of `steps` steps that `free` points in memory, the first among them, do not hold."""
    times = _times(steps, free)
    return max(steps - _reach(free - 1, times), _reach(free, times - 2))


def _reach(free: int, times: int) -> int:
    """The most steps that can be walked backwards with `free` points in memory where none is made more than `times` times."""
    return math.comb(free - 1 + times, times)


def _times(steps: int, free: int) -> int:
    """How many times a step is made at most, in the best schedule."""
    return next(times for times in itertools.count(1) if _reach(free, times) >= steps)


def replayed_steps(steps: int, room: int) -> int:
    """How many steps `backwards` makes."""
    free = room - 1
    times = _times(steps, free)
    return times * steps - math.comb(free + times - 1, times - 1) + 1


def room_for(steps: int, budget: int, size: int, beside: int = 0) -> int:
    """How many points of `size` bytes `backwards` may hold within `budget` bytes, where `beside` more are held elsewhere.

    Raises EngineError where the budget is below two points, or below the three that an epoch of several steps needs.
    """
    if budget < 2 * size:
        raise EngineError(f"The memory budget of {budget:,} bytes is below two sets of parameters ({2 * size:,} bytes); allow more.")
    room = budget // size - beside
    if room < min(steps + 1, LEAST_ROOM):
        least = min(steps + 1, LEAST_ROOM) + beside
        raise EngineError(
            f"The memory budget of {budget:,} bytes holds {budget // size} sets of parameters, and replaying an epoch of {steps} steps needs "
            f"{least} ({least * size:,} bytes); allow more."
        )
    return room
