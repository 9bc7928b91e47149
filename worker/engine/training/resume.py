"""Start, resume and load runs from their folders."""

from pathlib import Path

import numpy as np
import torch

from worker.engine import devices, whole_files
from worker.engine.errors import AnotherRun, CannotGoOn, EngineError
from worker.engine.images import draw_batches
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
    if len(record.history) < record.recipe.epochs:
        return False
    # The last epoch's file follows run.json; `recipe` deletes even that.
    pruned = record.store == "recipe" and not files.epoch_file(folder, 0).exists()
    return pruned or files.epoch_file(folder, record.recipe.epochs).exists()


def open_record(
    folder: Path, run: Runner, store: str, leave_out: np.ndarray | None, initial: torch.Tensor
) -> RunRecord:
    """Open the record of a new run, or of the run to resume.

    Args:
        leave_out: (N,) bool or None.
        initial: θ_0, (P,).

    Raises:
        EngineError: the folder holds another run, or a run of another device.
    """
    recipe, images = run.recipe, run.images
    left_out = (
        ""
        if leave_out is None or not leave_out.any()
        else images.subset(np.flatnonzero(leave_out)).digest()
    )
    record = files.read_record(folder)
    environment, start = devices.environment(run.device), files.params_hash(initial)
    if record is None:
        record = RunRecord(
            recipe, store, images.digest(), left_out, len(images), environment, start=start
        )
        whole_files.write_whole(folder / "run.json", record.to_json().encode())
        return record
    if (record.recipe, record.images, record.left_out) != (recipe, images.digest(), left_out):
        raise AnotherRun(
            "This folder holds the run of another recipe or image list; choose another folder."
        )
    if record.store != store:
        raise AnotherRun(
            f"This folder holds a run with the store {record.store}, not {store}; choose another "
            "folder, or continue with its own store."
        )
    if (
        NETWORKS[recipe.network].own
        and record.environment == environment
        and record.start not in ("", start)
    ):
        raise EngineError(
            f"The network {recipe.network} does not start from the parameters that this folder's "
            "run started with. Seed torch before you make the module, or register a function of "
            "the recipe, which is called with the recipe's seed; or choose another folder."
        )
    if record.environment["device"] != run.device.type and len(record.history) < recipe.epochs:
        raise EngineError(
            f"This run was started on {record.environment['device']} and would continue on "
            f"{run.device.type}, which rounds differently; continue where it was started, or train "
            "again in another folder."
        )
    return record


def resume(
    run: Runner, record: RunRecord, folder: Path, initial: torch.Tensor
) -> tuple[int, Point, Signals]:
    """Restore a run's progress.

    Args:
        initial: θ_0, (P,).

    Returns:
        First epoch to run, its starting point and the signals so far.
    """
    signals = Signals.empty(len(run.images))
    start: Point = (initial, initial_state(run.recipe, initial))
    if not files.epoch_file(folder, 0).exists():
        record.history.clear()
        record.first_steps.clear()
        files.write_point(files.epoch_file(folder, 0), start, record.run)
        return 0, start, signals
    # The epoch's file follows run.json, so it decides.
    while record.history and not files.epoch_file(folder, len(record.history)).exists():
        record.history.pop()
    first_epoch = len(record.history)
    del record.first_steps[first_epoch:]
    if first_epoch == 0:
        return 0, start, signals
    delete_signals(folder, first_epoch)
    point = files.read_point(files.epoch_file(folder, first_epoch), record.run)
    if files.params_hash(point[0]) != record.history[-1].params_hash:
        raise AnotherRun(
            f"The run's parameters after epoch {first_epoch} are damaged; train again in another "
            "folder."
        )
    _check_repeatable(run, record, folder)
    return (
        first_epoch,
        files.move_point(point, run.device),
        read_signals(signals_file(folder, first_epoch), len(run.images), record.run),
    )


def _check_repeatable(run: Runner, record: RunRecord, folder: Path) -> None:
    epoch = len(record.history) - 1
    start = files.move_point(
        files.read_point(files.epoch_file(folder, epoch), record.run), run.device
    )
    if not first_step_repeats(run, record, epoch, start):
        raise CannotGoOn(record.environment, devices.environment(run.device))


def first_step_repeats(run: Runner, record: RunRecord, epoch: int, start: Point) -> bool:
    """Return True if an epoch's first step matches its record.

    Args:
        epoch: from 0.
    """
    positions = draw_batches(run.recipe, run.images, epoch)[0]
    point = run.advance(start, *run.batch(epoch, positions), positions, run.rate(epoch, 0))[0]
    recorded = (
        record.first_steps if run.steps > 1 else [report.params_hash for report in record.history]
    )
    return recorded[epoch : epoch + 1] == [files.params_hash(point[0])]


def save_epoch(folder: Path, record: RunRecord, epoch: int, point: Point, signals: Signals) -> None:
    write_signals(signals_file(folder, epoch + 1), signals, record.run)
    whole_files.write_whole(folder / "run.json", record.to_json().encode())
    # Last, to mark the epoch as complete.
    files.write_point(files.epoch_file(folder, epoch + 1), point, record.run)
    delete_signals(folder, epoch + 1)


def delete_signals(folder: Path, epoch: int) -> None:
    """Delete earlier epochs' signals, which later files include."""
    for before in range(epoch):
        signals_file(folder, before).unlink(missing_ok=True)


@devices.default_torch_modes()
def load_training(folder: Path | str) -> Training:
    """Load a finished run from its folder.

    Raises:
        EngineError: the run is missing, unfinished or damaged.
    """
    folder = Path(folder)
    record = files.read_record(folder)
    if record is None:
        raise EngineError(f"There is no run in the folder {folder.name}; train it first.")
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
