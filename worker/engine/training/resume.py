"""Begin a run's folder, resume it, and load a finished run."""

from pathlib import Path

import numpy as np
import torch

from worker.engine import devices, whole_files
from worker.engine.errors import CannotGoOn, EngineError
from worker.engine.images import batches
from worker.engine.networks.registry import NETWORKS
from worker.engine.optimizers import initial_state
from worker.engine.training.runner import Runner, Training
from worker.engine.trajectory import files
from worker.engine.trajectory.files import Point, RunRecord
from worker.engine.trajectory.training_dynamics import (
    Signals,
    read_signals,
    signals_file,
    write_signals,
)


def is_complete(folder: Path, record: RunRecord) -> bool:
    """Whether nothing is left to train. The last epoch's file says so, which is written after run.json; or that a `recipe` was pruned."""
    if len(record.history) < record.recipe.epochs:
        return False
    pruned = record.store == "recipe" and not files.epoch_file(folder, 0).exists()
    return pruned or files.epoch_file(folder, record.recipe.epochs).exists()


def begin(
    folder: Path, run: Runner, store: str, leave_out: np.ndarray | None, initial: torch.Tensor
) -> RunRecord:
    """The record of a new run, or of the one to resume. Raises EngineError where the folder holds another run, or one of another device."""
    recipe, images = run.recipe, run.images
    left_out = (
        ""
        if leave_out is None or not leave_out.any()
        else images.subset(np.flatnonzero(leave_out)).digest()
    )
    record = files.read_record(folder)
    here, start = devices.environment(run.device), files.params_hash(initial)
    if record is None:
        record = RunRecord(recipe, store, images.digest(), left_out, len(images), here, start=start)
        whole_files.write_whole(folder / "run.json", record.to_json().encode())
        return record
    if (record.recipe, record.images, record.left_out) != (recipe, images.digest(), left_out):
        raise EngineError(
            "This folder holds the run of another recipe or image list; choose another folder."
        )
    if record.store != store:
        raise EngineError(
            f"This folder holds a run with the store {record.store}, not {store}; choose another folder, or go on with its own."
        )
    if (
        NETWORKS[recipe.network].own
        and record.environment == here
        and record.start not in ("", start)
    ):
        raise EngineError(
            f"The network {recipe.network} does not start from the parameters that this folder's run began with. Seed torch before you make the "
            "module, or register a function of the recipe, which is called with the recipe's seed; or choose another folder."
        )
    if record.environment["device"] != run.device.type and len(record.history) < recipe.epochs:
        raise EngineError(
            f"This run was begun on {record.environment['device']} and would go on on {run.device.type}, which rounds differently; "
            "go on where it was begun, or train anew in another folder."
        )
    return record


def resume(
    run: Runner, record: RunRecord, folder: Path, initial: torch.Tensor
) -> tuple[int, Point, Signals]:
    """The first epoch to run, where it starts, and the signals so far."""
    signals = Signals.none(len(run.images))
    start: Point = (initial, initial_state(run.recipe, initial))
    if not files.epoch_file(folder, 0).exists():
        record.history.clear()
        record.first_steps.clear()
        files.write_point(files.epoch_file(folder, 0), start, record.run)
        return 0, start, signals
    # run.json is written before the epoch's file: the file decides.
    while record.history and not files.epoch_file(folder, len(record.history)).exists():
        record.history.pop()
    first = len(record.history)
    del record.first_steps[first:]
    if first == 0:
        return 0, start, signals
    forget_signals(folder, first)
    point = files.read_point(files.epoch_file(folder, first), record.run)
    if files.params_hash(point[0]) != record.history[-1].params_hash:
        raise EngineError(
            f"The run's parameters after epoch {first} are damaged; train again in another folder."
        )
    _check_goes_on(run, record, folder)
    return (
        first,
        files.placed(point, run.device),
        read_signals(signals_file(folder, first), len(run.images), record.run),
    )


def _check_goes_on(run: Runner, record: RunRecord, folder: Path) -> None:
    """Raises CannotGoOn unless a step comes out as it did: another machine rounds differently, and a network's name may mean another now."""
    epoch = len(record.history) - 1
    start = files.placed(files.read_point(files.epoch_file(folder, epoch), record.run), run.device)
    if not repeats(run, record, epoch, start):
        raise CannotGoOn(record.environment, devices.environment(run.device))


def repeats(run: Runner, record: RunRecord, epoch: int, start: Point) -> bool:
    """Whether the first step of epoch `epoch` (from 0), made here from the epoch's start, comes out as the run recorded it."""
    positions = batches(run.recipe, run.images, epoch)[0]
    point = run.advance(start, *run.batch(epoch, positions), positions, run.rate(epoch, 0))[0]
    recorded = (
        record.first_steps if run.steps > 1 else [report.params_hash for report in record.history]
    )
    return recorded[epoch : epoch + 1] == [files.params_hash(point[0])]


def save_epoch(folder: Path, record: RunRecord, epoch: int, point: Point, signals: Signals) -> None:
    write_signals(signals_file(folder, epoch + 1), signals, record.run)
    whole_files.write_whole(folder / "run.json", record.to_json().encode())
    # Last: this file says that the epoch is complete.
    files.write_point(files.epoch_file(folder, epoch + 1), point, record.run)
    forget_signals(folder, epoch + 1)


def forget_signals(folder: Path, epoch: int) -> None:
    """Delete the signals of fewer epochs than these: each file has those of all epochs before it."""
    for before in range(epoch):
        signals_file(folder, before).unlink(missing_ok=True)


@devices.ordinary_modes()
def load_training(folder: Path | str) -> Training:
    """A finished run from its folder. Raises EngineError where it is not finished or damaged."""
    folder = Path(folder)
    record = files.read_record(folder)
    if record is None:
        raise EngineError(
            f"This run is not there: the folder {folder.name} holds none; train it first."
        )
    if len(record.history) < record.recipe.epochs:
        raise EngineError("This run is not finished; train it to the end first.")
    epochs = record.recipe.epochs
    signals = read_signals(signals_file(folder, epochs), record.count, record.run)
    if record.store == "recipe":
        return Training(folder, record, torch.empty(0), signals)
    params, _ = files.read_point(files.epoch_file(folder, epochs), record.run)
    if files.params_hash(params) != record.history[-1].params_hash:
        raise EngineError("The run's last parameters are damaged; train again in another folder.")
    return Training(folder, record, params, signals)
