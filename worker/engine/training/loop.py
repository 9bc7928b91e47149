"""Run a recipe: train, resume, leave images out."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from worker.engine import devices
from worker.engine import images as data
from worker.engine.errors import CannotGoOn, Diverged, EngineError
from worker.engine.images import Images, Integers
from worker.engine.inference import evaluate_params
from worker.engine.networks.registry import NETWORKS, Network, build
from worker.engine.optimizers import Step, initial_state, optimizer
from worker.engine.prefetch import Ahead
from worker.engine.recipe import Recipe
from worker.engine.training import checks
from worker.engine.training.validate_network import answers, check_same, examine
from worker.engine.trajectory import files
from worker.engine.trajectory.files import EpochReport, Point, Progress, RunRecord
from worker.engine.trajectory.step_store import StepsWriter
from worker.engine.trajectory.training_dynamics import Seen, Signals, read_signals, signals_file, write_signals

# Every how many steps a training looks whether its loss is still a number: looking makes a GPU wait.
LOOK = 50
# Where a Training comes from, for who gave something else.
MAKERS = "train and load_training return one"


@dataclass(frozen=True)
class Training:
    """A finished run. `params`: θ_T (P,), empty where the store keeps none. `signals`: what the training saw of each image."""

    folder: Path
    record: RunRecord
    params: torch.Tensor
    signals: Signals

    @property
    def recipe(self) -> Recipe:
        return self.record.recipe

    @property
    def history(self) -> list[EpochReport]:
        return self.record.history

    @property
    def margins(self) -> np.ndarray:
        """The area under the margin of each training image, (N,) float64 (Pleiss et al. 2020)."""
        return self.signals.margins / self.recipe.epochs

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
    def device(self) -> torch.device:
        """Where the network is, and all that a step sees."""
        return self.network.device

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
        with self._precision():
            logits = self.network.logits(theta, x)
        losses = functional.cross_entropy(logits.float(), y, reduction="none")
        # Dropping an image drops its term and keeps the divisor |S_t|: the counterfactual run of influence.md, section 2.
        weights = self.weights(positions)
        (gradient,) = torch.autograd.grad((losses if weights is None else losses * weights).mean(), theta)
        with torch.no_grad():
            return self.update(params, state, gradient, rate), logits.detach().float(), losses.detach()

    def batch(self, epoch: int, positions: Integers) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y of one step, on the device."""
        return data.batch(self.recipe, self.images, positions, epoch, torch.float32, self.device)

    def batches(self, epoch: int, order: list[Integers], towards: int = 1) -> Ahead[tuple[torch.Tensor, torch.Tensor]]:
        """x and y of step t of an epoch, read ahead. towards: 1 where the steps are walked in order, −1 in reverse."""
        return Ahead(lambda t: self.batch(epoch, order[t]), len(order), towards)

    def weights(self, positions: Integers) -> torch.Tensor | None:
        """What the images of a batch count, (B,) 1 or 0; None where all are in."""
        return None if self.keep is None else self.keep[torch.from_numpy(positions)].to(self.device)

    def _precision(self) -> AbstractContextManager[object]:
        """In lower precision only the network's operations of a training step are, in the run and in its replay alike."""
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)


def runner(
    recipe: Recipe, images: Images, leave_out: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> tuple[Runner, torch.Tensor]:
    """The shared parts of a run and θ_0. leave_out: (N,) bool."""
    data.check(images, recipe, "training")
    device = torch.device(device)
    if recipe.precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise EngineError("This GPU does not compute in bfloat16; choose the precision float32.")
    network, initial = build(recipe, device=device)
    keep = None if leave_out is None or not leave_out.any() else torch.from_numpy(~leave_out).to(torch.float32)
    return Runner(recipe, images, network, optimizer(recipe), keep), initial


def runner_of(training: Training, images: Images, device: torch.device) -> Runner:
    """The shared parts of a finished run. Raises EngineError where its network is another one by now."""
    run, _ = runner(training.recipe, images, device=device)
    check_network(run, training)
    return run


def check_network(run: Runner, training: Training) -> None:
    """Raises EngineError where the network is not the one that the run was trained with; a run without parameters shows it when it is replayed."""
    if training.params.numel():
        check_same(run.network, training.recipe, training.params.to(run.device), training.record.answers)


def _mask(leave_out: object, count: int) -> np.ndarray | None:
    """leave_out as (N,) bool, if it says yes or no to each image, and leaves some: numbers would count an image several times over."""
    if leave_out is None:
        return None
    mask = np.asarray(leave_out)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise EngineError(f"leave_out needs one True or False for each of the {count} training images, an array ({count},) of bool.")
    if mask.all():
        raise EngineError(f"leave_out leaves out all {count} training images, so there is nothing to learn from; leave some in.")
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
        raise EngineError(f"There is no store called {store!r}; there are {', '.join(files.STORES)}.")
    if validation is not None:
        data.check(validation, recipe, "validation")
    begun = files.read_record(folder)
    where = devices.choose(device, None if begun is None else begun.environment)
    data.check(images, recipe, "training")
    mask = _mask(leave_out, len(images))
    run, initial = runner(recipe, images, mask, where)
    checks.before_training(run.network, recipe, images, initial)
    if NETWORKS[recipe.network].own:
        examine(run.network, recipe, initial)
    checks.made(folder)
    record = _begin(folder, run, store, mask, initial)
    if _complete(folder, record):
        # Killed before it could.
        files.prune(folder, record.store, recipe.epochs)
        _forget_signals(folder, recipe.epochs)
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


def _complete(folder: Path, record: RunRecord) -> bool:
    """Whether nothing is left to train. The last epoch's file says so, which is written after run.json; or that a `recipe` was pruned."""
    if len(record.history) < record.recipe.epochs:
        return False
    pruned = record.store == "recipe" and not files.epoch_file(folder, 0).exists()
    return pruned or files.epoch_file(folder, record.recipe.epochs).exists()


def _begin(folder: Path, run: Runner, store: str, leave_out: np.ndarray | None, initial: torch.Tensor) -> RunRecord:
    """The record of a new run, or of the one to resume. Raises EngineError where the folder holds another run, or one of another device."""
    recipe, images = run.recipe, run.images
    left_out = "" if leave_out is None or not leave_out.any() else images.subset(np.flatnonzero(leave_out)).digest()
    record = files.read_record(folder)
    here, start = devices.environment(run.device), files.params_hash(initial)
    if record is None:
        record = RunRecord(recipe, store, images.digest(), left_out, len(images), here, start=start)
        files.write_whole(folder / "run.json", record.to_json().encode())
        return record
    if (record.recipe, record.images, record.left_out) != (recipe, images.digest(), left_out):
        raise EngineError("This folder holds the run of another recipe or image list; choose another folder.")
    if record.store != store:
        raise EngineError(
            f"This folder holds a run with the store {record.store}, not {store}; choose another folder, or go on with its own."
        )
    if NETWORKS[recipe.network].own and record.environment == here and record.start not in ("", start):
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


def _run(
    run: Runner,
    record: RunRecord,
    folder: Path,
    initial: torch.Tensor,
    validation: Images | None,
    on_epoch: Callable[[EpochReport], None] | None,
    progress: Progress | None,
) -> None:
    first, point, signals = _resume(run, record, folder, initial)
    for report in record.history:
        if on_epoch:
            on_epoch(report)
    for epoch in range(first, run.recipe.epochs):
        started = time.perf_counter()
        with StepsWriter(files.steps_file(folder, epoch), run.steps, record.run) as writer:
            point, loss, accuracy = _epoch(run, epoch, point, signals, _keeping(record, writer), progress)
        evaluated = (None, None) if validation is None else evaluate_params(run.network, run.recipe, point[0], validation)
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
        _save_epoch(folder, record, epoch, point, signals)
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


def _resume(run: Runner, record: RunRecord, folder: Path, initial: torch.Tensor) -> tuple[int, Point, Signals]:
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
    _forget_signals(folder, first)
    point = files.read_point(files.epoch_file(folder, first), record.run)
    if files.params_hash(point[0]) != record.history[-1].params_hash:
        raise EngineError(f"The run's parameters after epoch {first} are damaged; train again in another folder.")
    _check_goes_on(run, record, folder)
    return first, files.placed(point, run.device), read_signals(signals_file(folder, first), len(run.images), record.run)


def _check_goes_on(run: Runner, record: RunRecord, folder: Path) -> None:
    """Raises CannotGoOn unless a step comes out as it did: another machine rounds differently, and a network's name may mean another now."""
    epoch = len(record.history) - 1
    start = files.placed(files.read_point(files.epoch_file(folder, epoch), record.run), run.device)
    if not repeats(run, record, epoch, start):
        raise CannotGoOn(record.environment, devices.environment(run.device))


def repeats(run: Runner, record: RunRecord, epoch: int, start: Point) -> bool:
    """Whether the first step of epoch `epoch` (from 0), made here from the epoch's start, comes out as the run recorded it."""
    positions = data.batches(run.recipe, run.images, epoch)[0]
    point = run.advance(start, *run.batch(epoch, positions), positions, run.rate(epoch, 0))[0]
    recorded = record.first_steps if run.steps > 1 else [report.params_hash for report in record.history]
    return recorded[epoch : epoch + 1] == [files.params_hash(point[0])]


def _epoch(
    run: Runner, epoch: int, point: Point, signals: Signals, keep: Callable[[int, Point], None], progress: Progress | None
) -> tuple[Point, float, float]:
    """One epoch from `point`: where it ends, its mean training loss and accuracy. Adds to `signals`; hands each t, (θ_t, s_t) to `keep`."""
    order = data.batches(run.recipe, run.images, epoch)
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


def _save_epoch(folder: Path, record: RunRecord, epoch: int, point: Point, signals: Signals) -> None:
    write_signals(signals_file(folder, epoch + 1), signals, record.run)
    files.write_whole(folder / "run.json", record.to_json().encode())
    # Last: this file says that the epoch is complete.
    files.write_point(files.epoch_file(folder, epoch + 1), point, record.run)
    _forget_signals(folder, epoch + 1)


def _forget_signals(folder: Path, epoch: int) -> None:
    """Delete the signals of fewer epochs than these: each file has those of all epochs before it."""
    for before in range(epoch):
        signals_file(folder, before).unlink(missing_ok=True)


@devices.ordinary_modes()
def load_training(folder: Path | str) -> Training:
    """A finished run from its folder. Raises EngineError where it is not finished or damaged."""
    folder = Path(folder)
    record = files.read_record(folder)
    if record is None:
        raise EngineError(f"This run is not there: the folder {folder.name} holds none; train it first.")
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
