"""Run a recipe: train, resume, leave images out."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from worker.engine import devices
from worker.engine.errors import Diverged, EngineError
from worker.engine.images import Images, batches, check_images
from worker.engine.networks.registry import NETWORKS
from worker.engine.recipe import Recipe
from worker.engine.sweep import Progress, evaluate_params
from worker.engine.training import checks
from worker.engine.training.resume import (
    begin,
    forget_signals,
    is_complete,
    load_training,
    resume,
    save_epoch,
)
from worker.engine.training.runner import Runner, Training, check_network, runner
from worker.engine.training.validate_network import answers, examine
from worker.engine.trajectory import files
from worker.engine.trajectory.files import EpochReport, Point, RunRecord
from worker.engine.trajectory.step_store import StepsWriter
from worker.engine.trajectory.training_dynamics import Seen, Signals

# Every how many steps a training looks whether its loss is still a number: looking makes a GPU wait.
LOOK = 50


def _mask(leave_out: object, count: int) -> np.ndarray | None:
    """leave_out as (N,) bool, if it says yes or no to each image, and leaves some: numbers would count an image several times over."""
    if leave_out is None:
        return None
    mask = np.asarray(leave_out)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise EngineError(
            f"leave_out needs one True or False for each of the {count} training images, an array ({count},) of bool."
        )
    if mask.all():
        raise EngineError(
            f"leave_out leaves out all {count} training images, so there is nothing to learn from; leave some in."
        )
    return mask


@devices.ordinary_modes()
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
    """Run a recipe into `folder`, resuming whatever is there.

    images: the N training images. validation: evaluated after each epoch, or None. leave_out: (N,) bool, images whose terms are dropped
    while divisor, order, augmentation and seeds stay (the papers' counterfactual run). store: see worker.engine.trajectory.files.
    on_epoch: called once for each epoch that ends (again for epochs ended before a resume). progress: may raise to stop; the folder resumes.
    device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises EngineError for input that does not fit, CannotGoOn where steps do not come out here as those of the run to resume did, Diverged
    where the loss is no longer a number.
    """
    folder = checks.folder(folder)
    checks.given(recipe, Recipe, "recipe", "default_recipe makes one for a list of images")
    if store not in files.STORES:
        raise EngineError(
            f"There is no store called {store!r}; there are {', '.join(files.STORES)}."
        )
    if validation is not None:
        check_images(validation, recipe, "validation")
    begun = files.read_record(folder)
    where = devices.choose(device, None if begun is None else begun.environment)
    check_images(images, recipe, "training")
    mask = _mask(leave_out, len(images))
    run, initial = runner(recipe, images, mask, where)
    checks.before_training(run.network, recipe, images, initial)
    if NETWORKS[recipe.network].own:
        examine(run.network, recipe, initial)
    checks.made(folder)
    record = begin(folder, run, store, mask, initial)
    if is_complete(folder, record):
        # Killed before it could.
        files.prune(folder, record.store, recipe.epochs)
        forget_signals(folder, recipe.epochs)
        training = load_training(folder)
        check_network(run, training)
        for report in training.history:
            if on_epoch:
                on_epoch(report)
        return training
    with devices.exact(where, int(record.environment["threads"])):
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
    first, point, signals = resume(run, record, folder, initial)
    for report in record.history:
        if on_epoch:
            on_epoch(report)
    for epoch in range(first, run.recipe.epochs):
        started = time.perf_counter()
        with StepsWriter(files.steps_file(folder, epoch), run.steps, record.run) as writer:
            point, loss, accuracy = _epoch(
                run, epoch, point, signals, _keeping(record, writer), progress
            )
        evaluated = (
            (None, None)
            if validation is None
            else evaluate_params(run.network, run.recipe, point[0], validation)
        )
        if NETWORKS[run.recipe.network].own:
            record.answers = answers(run.network, run.recipe, point[0])
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


def _keeping(record: RunRecord, writer: StepsWriter) -> Callable[[int, Point], None]:
    """What to keep of each θ_t, s_t of an epoch: all of it where the store says so, and the hash after the first step."""

    def keep(t: int, point: Point) -> None:
        if record.store == "every_step":
            writer.append(point)
        if t == 1:
            record.first_steps.append(files.params_hash(point[0]))

    return keep


def _epoch(
    run: Runner,
    epoch: int,
    point: Point,
    signals: Signals,
    keep: Callable[[int, Point], None],
    progress: Progress | None,
) -> tuple[Point, float, float]:
    """One epoch from `point`: where it ends, its mean training loss and accuracy. Adds to `signals`; hands each t, (θ_t, s_t) to `keep`."""
    order = batches(run.recipe, run.images, epoch)
    # What each step sees stays on the device until the epoch's end: a copy at each step would make a GPU wait.
    seen = Seen(len(run.images), run.device)
    with run.batches(epoch, order) as batch:
        for t, positions in enumerate(order):
            keep(t, point)
            x, y = batch(t)
            point, logits, losses = run.advance(point, x, y, positions, run.rate(epoch, t))
            seen.step(logits, losses, y)
            if t % LOOK == 0 and not bool(torch.isfinite(losses).all()):
                raise Diverged(epoch + 1, run.recipe.learning_rate)
            if progress is not None:
                progress(epoch * run.steps + t + 1, run.recipe.epochs * run.steps)
    loss, accuracy = seen.add_to(signals, np.concatenate(order))
    if not (math.isfinite(loss) and bool(torch.isfinite(point[0]).all())):
        raise Diverged(epoch + 1, run.recipe.learning_rate)
    return point, loss, accuracy
