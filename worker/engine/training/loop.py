"""The training loop: train, resume, leave images out."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from worker.engine import devices
from worker.engine.errors import Diverged, EngineError
from worker.engine.images import Images, check_images, draw_batches
from worker.engine.networks.registry import NETWORKS
from worker.engine.recipe import Recipe
from worker.engine.sweep import Progress, evaluate_params
from worker.engine.training import checks
from worker.engine.training.resume import (
    delete_signals,
    is_complete,
    load_training,
    open_record,
    resume,
    save_epoch,
)
from worker.engine.training.runner import Runner, Training, check_network, make_runner
from worker.engine.training.validate_network import trial_logits, validate_network
from worker.engine.trajectory import files
from worker.engine.trajectory.files import EpochReport, Point, RunRecord
from worker.engine.trajectory.step_store import StepsWriter
from worker.engine.trajectory.training_dynamics import EpochSignals, Signals

# Each check makes a GPU wait.
CHECK_LOSS_EVERY = 50


def _check_mask(leave_out: object, count: int) -> np.ndarray | None:
    """Require an (N,) bool mask: indices would be ambiguous."""
    if leave_out is None:
        return None
    mask = np.asarray(leave_out)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise EngineError(
            f"leave_out needs one True or False for each of the {count} training images, an array "
            f"({count},) of bool."
        )
    if mask.all():
        raise EngineError(
            f"leave_out leaves out all {count} training images, so there is nothing to learn from; "
            "keep some."
        )
    return mask


@devices.default_torch_modes()
def train(
    recipe: Recipe,
    images: Images,
    validation: Images | None,
    folder: Path | str,
    *,
    leave_out: np.ndarray | None = None,
    store: str = "epoch_starts",
    on_epoch: Callable[[EpochReport], None] | None = None,
    progress: Progress | None = None,
    device: str = "auto",
) -> Training:
    """Run a recipe into `folder`, resuming what is there.

    Args:
        recipe: of the run.
        images: N training images.
        validation: images to evaluate after each epoch, or None.
        folder: for the run's files.
        leave_out: (N,) bool; drops terms, keeps divisors (docs/method.md, section 2).
        store: name in `files.STORES`.
        on_epoch: called after each epoch, including those before a resume.
        progress: called as progress(done, total) in steps; may raise to stop.
        device: "cpu", "cuda", or "auto" for an available GPU.

    Raises:
        EngineError: invalid input.
        CannotGoOn: resumed steps come out differently here.
        Diverged: the loss is not a number.
    """
    folder = checks.check_folder(folder)
    checks.check_type(recipe, Recipe, "recipe", "default_recipe makes one for a list of images")
    if store not in files.STORES:
        raise EngineError(
            f"There is no store called {store!r}; choose from {', '.join(files.STORES)}."
        )
    if validation is not None:
        check_images(validation, recipe, "validation")
    earlier = files.read_record(folder)
    where = devices.choose_device(device, None if earlier is None else earlier.environment)
    check_images(images, recipe, "training")
    mask = _check_mask(leave_out, len(images))
    run, initial = make_runner(recipe, images, mask, where)
    checks.check_before_training(run.network, recipe, images, initial)
    if NETWORKS[recipe.network].own:
        validate_network(run.network, recipe, initial)
    checks.make_folder(folder)
    record = open_record(folder, run, store, mask, initial)
    if is_complete(folder, record):
        files.prune(folder, record.store, recipe.epochs)
        delete_signals(folder, recipe.epochs)
        training = load_training(folder)
        check_network(run, training)
        for report in training.history:
            if on_epoch:
                on_epoch(report)
        return training
    with devices.deterministic(where, int(record.environment["threads"])):
        _run(run, record, folder, initial, validation, on_epoch, progress)
    files.prune(folder, record.store, recipe.epochs)
    return load_training(folder)


def _run(
    run: Runner,
    record: RunRecord,
    folder: Path,
    initial: torch.Tensor,
    validation: Images | None,
    on_epoch: Callable[[EpochReport], None] | None,
    progress: Progress | None,
) -> None:
    first_epoch, point, signals = resume(run, record, folder, initial)
    for report in record.history:
        if on_epoch:
            on_epoch(report)
    for epoch in range(first_epoch, run.recipe.epochs):
        started = time.perf_counter()
        with StepsWriter(files.steps_file(folder, epoch), run.steps, record.run) as writer:
            point, loss, accuracy = _epoch(
                run, epoch, point, signals, _point_recorder(record, writer), progress
            )
        evaluated = (
            (None, None)
            if validation is None
            else evaluate_params(run.network, run.recipe, point[0], validation)
        )
        if NETWORKS[run.recipe.network].own:
            record.answers = trial_logits(run.network, run.recipe, point[0])
        record.history.append(
            EpochReport(
                epoch=epoch + 1,
                epochs=run.recipe.epochs,
                train_loss=loss,
                train_accuracy=accuracy,
                validation_accuracy=evaluated[0],
                validation_loss=evaluated[1],
                learning_rate=run.rate(epoch, run.steps - 1),
                seconds=time.perf_counter() - started,
                params_hash=files.params_hash(point[0]),
            )
        )
        save_epoch(folder, record, epoch, point, signals)
        if on_epoch:
            on_epoch(record.history[-1])


def _point_recorder(record: RunRecord, writer: StepsWriter) -> Callable[[int, Point], None]:
    def record_point(t: int, point: Point) -> None:
        if record.store == "every_step":
            writer.append(point)
        if t == 1:
            record.first_steps.append(files.params_hash(point[0]))

    return record_point


def _epoch(
    run: Runner,
    epoch: int,
    point: Point,
    signals: Signals,
    record_point: Callable[[int, Point], None],
    progress: Progress | None,
) -> tuple[Point, float, float]:
    """Train an epoch, adding to `signals`; return its end, mean loss and accuracy."""
    order = draw_batches(run.recipe, run.images, epoch)
    # On the device: copies at each step would make a GPU wait.
    epoch_signals = EpochSignals(run.recipe.draws_per_epoch(len(run.images)), run.device)
    with run.prefetch(epoch, order) as batch:
        for t, positions in enumerate(order):
            record_point(t, point)
            x, y = batch(t)
            point, logits, losses = run.advance(point, x, y, positions, run.rate(epoch, t))
            epoch_signals.add_step(logits, losses, y)
            if t % CHECK_LOSS_EVERY == 0 and not bool(torch.isfinite(losses).all()):
                raise Diverged(epoch + 1, run.recipe.learning_rate)
            if progress is not None:
                progress(epoch * run.steps + t + 1, run.recipe.epochs * run.steps)
    loss, accuracy = epoch_signals.finish(signals, np.concatenate(order))
    if not (math.isfinite(loss) and bool(torch.isfinite(point[0]).all())):
        raise Diverged(epoch + 1, run.recipe.learning_rate)
    return point, loss, accuracy
