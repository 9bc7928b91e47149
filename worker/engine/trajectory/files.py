"""Files of a run (docs/method.md, section 4).

A folder has `run.json` and, depending on the store:

    epoch_starts   epoch-0000.safetensors …: θ and s at each epoch's start and the end
    every_step     also steps-0000.safetensors …: θ and s before each step of an epoch
    recipe         nothing: all is replayed from the seed
    final_params   the last parameters (the second paper's approximation)

A run resumes from its last epoch file, so that file is written last.
"""

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from worker.engine import whole_files
from worker.engine.errors import AnotherRun
from worker.engine.optimizers import State
from worker.engine.recipe import Recipe

STORES = ("epoch_starts", "every_step", "recipe", "final_params")

Point = tuple[torch.Tensor, State]  # θ_t and s_t


@dataclass(frozen=True)
class EpochReport:
    """Measurements of an epoch (from 1).

    Losses are means, accuracies fractions; `params_hash` is from the epoch's end.
    """

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
    """Content of run.json."""

    recipe: Recipe
    store: str
    images: str  # digest of the image list
    left_out: str  # digest of the images left out; empty for none
    count: int  # N
    environment: dict[str, str]
    history: list[EpochReport] = field(default_factory=list)
    # Hashes after each epoch's first step, to notice drift at once.
    first_steps: list[str] = field(default_factory=list)
    # Hash of θ_0, and a user's network's answers to trial images, to recognise the network.
    start: str = ""
    answers: list[list[float]] = field(default_factory=list)

    @property
    def run(self) -> str:
        """SHA-256 of the run's inputs, kept in each of its files."""
        return hashlib.sha256(
            f"{self.recipe.digest()}/{self.images}/{self.left_out}".encode()
        ).hexdigest()

    def to_json(self) -> str:
        values = {
            **self.__dict__,
            "recipe": json.loads(self.recipe.to_json()),
            "history": [asdict(report) for report in self.history],
        }
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        values: dict[str, Any] = json.loads(text)
        values["recipe"] = Recipe.from_json(json.dumps(values["recipe"]))
        values["history"] = [EpochReport(**report) for report in values["history"]]
        int(values["environment"]["threads"])  # refuse damage now
        return cls(**values)


def params_hash(params: torch.Tensor) -> str:
    return hashlib.sha256(params.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def epoch_file(folder: Path, epoch: int) -> Path:
    """Path of θ and s at an epoch's start (from 0)."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def steps_file(folder: Path, epoch: int) -> Path:
    """Path of θ_t and s_t of an epoch's steps (from 0)."""
    return folder / f"steps-{epoch:04d}.safetensors"


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], run: str) -> None:
    """Save tensors with their checksum and `RunRecord.run`."""
    # One entry: safetensors writes several in random order.
    on_cpu = {key: value.cpu().contiguous() for key, value in tensors.items()}
    whole_files.write_whole(path, save(on_cpu, {"proof": f"{run} {_crc32(on_cpu)}"}))


def read_tensors(path: Path, run: str) -> dict[str, torch.Tensor]:
    """Load tensors.

    Raises:
        EngineError: missing, damaged or another run's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            owner, _, check = (file.metadata() or {}).get("proof", "").partition(" ")
            # Copies in torch's alignment, on which the last bits of sums depend.
            # `file` is no dict.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise damaged_error(path) from error
    if check != _crc32(tensors):
        raise damaged_error(path)
    check_run(path, owner, run)
    return tensors


def check_run(path: Path, owner: str, run: str) -> None:
    if owner != run:
        raise AnotherRun(
            f"The file {path.name} belongs to a run with another recipe or image list; restore the "
            "file of this run, or train again."
        )


def damaged_error(path: Path) -> AnotherRun:
    return AnotherRun(
        f"The run's file {path.name} is missing or damaged; train again in another folder."
    )


def _crc32(tensors: dict[str, torch.Tensor]) -> str:
    check = 0
    for key in sorted(tensors):
        check = zlib.crc32(tensors[key].numpy().tobytes(), zlib.crc32(key.encode(), check))
    return f"{check:08x}"


def write_point(path: Path, point: Point, run: str) -> None:
    params, state = point
    write_tensors(
        path, {"params": params, **{f"state.{key}": value for key, value in state.items()}}, run
    )


def read_point(path: Path, run: str) -> Point:
    tensors = read_tensors(path, run)
    if "params" not in tensors:
        raise damaged_error(path)
    return tensors.pop("params"), {
        key.removeprefix("state."): value for key, value in tensors.items()
    }


def move_point(point: Point, device: torch.device) -> Point:
    params, state = point
    return params.to(device), {key: value.to(device) for key, value in state.items()}


def read_record(folder: Path) -> RunRecord | None:
    """Load run.json; None if there is none.

    Raises:
        EngineError: damaged.
    """
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return RunRecord.from_json(path.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise AnotherRun(
            "The run's file run.json is damaged; train again in another folder."
        ) from error


def stored_bytes(folder: Path | str) -> int:
    """Bytes of a trajectory on disk."""
    return sum(path.stat().st_size for path in Path(folder).glob("*") if path.is_file())


def prune(folder: Path, store: str, epochs: int) -> None:
    """Delete a complete run's epoch files that its store does not keep."""
    kept = (
        range(epochs + 1)
        if store in ("epoch_starts", "every_step")
        else range(epochs, epochs + (store == "final_params"))
    )
    for epoch in range(epochs + 1):
        if epoch not in kept:
            epoch_file(folder, epoch).unlink(missing_ok=True)


def point_bytes(point: Point) -> int:
    params, state = point
    return sum(t.numel() * t.element_size() for t in (params, *state.values()))
