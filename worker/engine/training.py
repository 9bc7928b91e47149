"""Run a recipe: train, resume, leave images out, predict."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from worker.engine import data, trajectory
from worker.engine.data import Images, Integers
from worker.engine.errors import Diverged, EngineError
from worker.engine.models import Network, build
from worker.engine.optimizers import Step, initial_state, optimizer
from worker.engine.recipe import Recipe
from worker.engine.trajectory import EpochReport, Point, Progress, RunRecord

# Images of one evaluation pass.
EVALUATION = 1024


@dataclass(frozen=True)
class Training:
    """A finished run. `margins`: the area under the margin of each training image, (N,) float64 (Pleiss et al. 2020)."""

    folder: Path
    record: RunRecord
    params: torch.Tensor
    margins: np.ndarray

    @property
    def recipe(self) -> Recipe:
        return self.record.recipe

    @property
    def history(self) -> list[EpochReport]:
        return self.record.history

    @property
    def params_hash(self) -> str:
        return self.history[-1].params_hash

    @property
    def seconds(self) -> float:
        return sum(report.seconds for report in self.history)


@dataclass
class Runner:
    """What every step of one run shares."""

    recipe: Recipe
    images: Images
    network: Network
    update: Step
    keep: torch.Tensor | None  # (N,) 1 or 0 for images left out; None where all are in

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self.recipe.steps_per_epoch(len(self.images))

    def rate(self, epoch: int, t: int) -> float:
        """η of step t of an epoch."""
        return self.recipe.rate(epoch * self.steps + t, self.recipe.epochs * self.steps)

    def advance(
        self, point: Point, x: torch.Tensor, y: torch.Tensor, positions: Integers, rate: float
    ) -> tuple[Point, torch.Tensor, torch.Tensor]:
        """θ_{t+1}, s_{t+1} = step(θ_t, s_t, g_t); also the logits (B, classes) and losses (B,) at θ_t."""
        params, state = point
        theta = params.detach().requires_grad_()
        logits = self.network.logits(theta, x)
        losses = functional.cross_entropy(logits, y, reduction="none")
        # Dropping an image drops its term and keeps the divisor |S_t|: the counterfactual run of influence.md, section 2.
        counted = losses if self.keep is None else losses * self.keep[torch.from_numpy(positions)]
        (gradient,) = torch.autograd.grad(counted.mean(), theta)
        with torch.no_grad():
            return self.update(params, state, gradient, rate), logits.detach(), losses.detach()

    def batch(self, epoch: int, positions: Integers) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y of one step."""
        return data.batch(self.recipe, self.images, positions, epoch, torch.float32)


def runner(recipe: Recipe, images: Images, leave_out: np.ndarray | None = None) -> tuple[Runner, torch.Tensor]:
    """The shared parts of a run and θ_0. leave_out: (N,) bool."""
    data.check(images, recipe, "training")
    network, initial = build(recipe)
    keep = None
    if leave_out is not None and leave_out.any():
        if len(leave_out) != len(images):
            raise EngineError("leave_out needs one entry for each training image.")
        keep = torch.from_numpy(~leave_out).to(torch.float32)
    return Runner(recipe, images, network, optimizer(recipe), keep), initial


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sums are split by thread: the same count gives the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    recipe: Recipe,
    images: Images,
    validation: Images | None,
    folder: Path,
    *,
    leave_out: np.ndarray | None = None,
    store: str = "epoch_starts",
    on_epoch: Callable[[EpochReport], None] | None = None,
    progress: Progress | None = None,
) -> Training:
    """Run a recipe into `folder`, resuming whatever is there.

    images: the N training images. validation: evaluated after each epoch, or None. leave_out: (N,) bool, images whose terms are dropped
    while divisor, order, augmentation and seeds stay (the papers' counterfactual run). store: see worker.engine.trajectory.
    on_epoch: called once for each epoch that ends (again for epochs ended before a resume). progress: may raise to stop; the folder resumes.

    Raises EngineError for input that does not fit, Diverged where the loss is no longer a number.
    """
    if store not in trajectory.STORES:
        raise EngineError(f"There is no store called {store!r}; there are {', '.join(trajectory.STORES)}.")
    if validation is not None:
        data.check(validation, recipe, "validation")
    run, initial = runner(recipe, images, leave_out)
    folder.mkdir(parents=True, exist_ok=True)
    record = _begin(folder, recipe, images, store, leave_out)
    if len(record.history) == recipe.epochs:
        training = load_training(folder)
        for report in training.history:
            if on_epoch:
                on_epoch(report)
        return training
    with threads(int(record.environment["threads"])):
        _run(run, record, folder, initial, validation, on_epoch, progress)
    trajectory.prune(folder, store, recipe.epochs)
    return load_training(folder)


def _begin(folder: Path, recipe: Recipe, images: Images, store: str, leave_out: np.ndarray | None) -> RunRecord:
    """The record of a new run, or of the one to resume. Raises EngineError where the folder holds another run."""
    left_out = "" if leave_out is None or not leave_out.any() else images.subset(np.flatnonzero(leave_out)).digest()
    record = trajectory.read_record(folder)
    if record is None:
        record = RunRecord(recipe, store, images.digest(), left_out, len(images), trajectory.environment())
        trajectory.write_whole(folder / "run.json", record.to_json().encode())
        return record
    if (record.recipe, record.images, record.left_out) != (recipe, images.digest(), left_out):
        raise EngineError("This folder holds the run of another recipe or image list; choose another folder.")
    return record


def _run(
    run: Runner,
    record: RunRecord,
    folder: Path,
    initial: torch.Tensor,
    validation: Images | None,
    on_epoch: Callable[[EpochReport], None] | None,
    progress: Progress | None,
) -> None:
    first, point, margins = _resume(run, record, folder, initial)
    for report in record.history:
        if on_epoch:
            on_epoch(report)
    for epoch in range(first, run.recipe.epochs):
        started = time.perf_counter()
        points: list[Point] | None = [] if record.store == "every_step" else None
        point, loss, accuracy = _epoch(run, epoch, point, margins, points, progress)
        evaluated = (None, None) if validation is None else evaluate_params(run.network, run.recipe, point[0], validation)
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
                params_hash=trajectory.params_hash(point[0]),
            )
        )
        _save_epoch(folder, record, epoch, point, margins, points)
        if on_epoch:
            on_epoch(record.history[-1])


def _resume(run: Runner, record: RunRecord, folder: Path, initial: torch.Tensor) -> tuple[int, Point, np.ndarray]:
    """The first epoch to run, where it starts, and the margins so far."""
    margins = np.zeros(len(run.images))
    start: Point = (initial, initial_state(run.recipe, initial))
    if not trajectory.epoch_file(folder, 0).exists():
        record.history.clear()
        trajectory.write_point(trajectory.epoch_file(folder, 0), start)
        return 0, start, margins
    # run.json is written before the epoch's file: the file decides.
    while record.history and not trajectory.epoch_file(folder, len(record.history)).exists():
        record.history.pop()
    first = len(record.history)
    if first == 0:
        return 0, start, margins
    point = trajectory.read_point(trajectory.epoch_file(folder, first))
    if trajectory.params_hash(point[0]) != record.history[-1].params_hash:
        raise EngineError(f"The run's parameters after epoch {first} are damaged; delete this run and train again.")
    return first, point, trajectory.read_margins(trajectory.margins_file(folder, first))


def _epoch(
    run: Runner, epoch: int, point: Point, margins: np.ndarray, points: list[Point] | None, progress: Progress | None
) -> tuple[Point, float, float]:
    """One epoch from `point`: where it ends, its mean training loss and accuracy. Adds to `margins` (N,); appends to `points`."""
    total = correct = 0.0
    for t, positions in enumerate(data.batches(run.recipe, run.images, epoch)):
        if points is not None:
            points.append(point)
        x, y = run.batch(epoch, positions)
        point, logits, losses = run.advance(point, x, y, positions, run.rate(epoch, t))
        loss = float(losses.sum())
        if not math.isfinite(loss):
            raise Diverged(epoch + 1, run.recipe.learning_rate)
        total += loss
        correct += float((logits.argmax(1) == y).sum())
        margins[positions] += margin(logits, y).numpy()
        if progress is not None:
            progress(epoch * run.steps + t + 1, run.recipe.epochs * run.steps)
    if not bool(torch.isfinite(point[0]).all()):
        raise Diverged(epoch + 1, run.recipe.learning_rate)
    return point, total / len(run.images), correct / len(run.images)


def margin(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The given label's logit minus the largest other one, (B,) (Pleiss et al. 2020, equation 1)."""
    given = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (given - others.max(1, keepdim=True).values).squeeze(1)


def _save_epoch(folder: Path, record: RunRecord, epoch: int, point: Point, margins: np.ndarray, points: list[Point] | None) -> None:
    if points is not None:
        trajectory.write_steps(trajectory.steps_file(folder, epoch), points)
    trajectory.write_margins(trajectory.margins_file(folder, epoch + 1), margins)
    trajectory.write_whole(folder / "run.json", record.to_json().encode())
    # Last: this file says that the epoch is complete.
    trajectory.write_point(trajectory.epoch_file(folder, epoch + 1), point)
    trajectory.margins_file(folder, epoch).unlink(missing_ok=True)


def load_training(folder: Path) -> Training:
    """A finished run from its folder. Raises EngineError where it is not finished or damaged."""
    record = trajectory.read_record(folder)
    if record is None or len(record.history) < record.recipe.epochs:
        raise EngineError("This run is not finished; train it to the end first.")
    epochs = record.recipe.epochs
    margins = trajectory.read_margins(trajectory.margins_file(folder, epochs)) / epochs
    if record.store == "recipe":
        return Training(folder, record, torch.empty(0), margins)
    params, _ = trajectory.read_point(trajectory.epoch_file(folder, epochs))
    if trajectory.params_hash(params) != record.history[-1].params_hash:
        raise EngineError("The run's last parameters are damaged; train this run again.")
    return Training(folder, record, params, margins)


def logits_of(network: Network, recipe: Recipe, params: torch.Tensor, images: Images, progress: Progress | None = None) -> torch.Tensor:
    """Logits of all images, without augmentation, (N, classes)."""
    result = torch.empty(len(images), recipe.classes)
    with torch.no_grad():
        for start in range(0, len(images), EVALUATION):
            positions = np.arange(start, min(start + EVALUATION, len(images)))
            x, _ = data.plain(recipe, images, positions, params.dtype)
            result[start : start + len(positions)] = network.logits(params, x)
            if progress is not None:
                progress(start + len(positions), len(images))
    return result


def evaluate_params(network: Network, recipe: Recipe, params: torch.Tensor, images: Images) -> tuple[float, float]:
    """(accuracy as a fraction, mean loss)."""
    logits = logits_of(network, recipe, params, images)
    y = torch.from_numpy(images.labels)
    return float((logits.argmax(1) == y).double().mean()), float(functional.cross_entropy(logits.double(), y))


def predict(training: Training, images: Images, *, progress: Progress | None = None) -> np.ndarray:
    """Probabilities of the finished run's model, (N, classes) float32."""
    data.check(images, training.recipe, "given")
    network, _ = build(training.recipe)
    return logits_of(network, training.recipe, training.params, images, progress).softmax(1).numpy()


def evaluate(training: Training, images: Images) -> tuple[float, float]:
    """(accuracy as a fraction, mean loss) of the finished run's model."""
    data.check(images, training.recipe, "given")
    network, _ = build(training.recipe)
    return evaluate_params(network, training.recipe, training.params, images)


def features(training: Training, images: Images) -> np.ndarray:
    """What the last layer sees, (N, D) float32."""
    data.check(images, training.recipe, "given")
    network, _ = build(training.recipe)
    chunks = []
    with torch.no_grad():
        for start in range(0, len(images), EVALUATION):
            positions = np.arange(start, min(start + EVALUATION, len(images)))
            x, _ = data.plain(training.recipe, images, positions, torch.float32)
            chunks.append(network.features(training.params, x).flatten(1))
    return torch.cat(chunks).numpy()
