"""Replay of a finished run's steps, epoch by epoch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from worker.engine import devices
from worker.engine.derivatives.passes import TrainingStep
from worker.engine.errors import EngineError, ReplayDrift
from worker.engine.images import Images, Integers, draw_batches
from worker.engine.optimizers import initial_state
from worker.engine.training import checks
from worker.engine.training.resume import first_step_repeats
from worker.engine.training.runner import (
    TRAINING_SOURCES,
    Runner,
    Training,
    make_runner,
    restore_runner,
)
from worker.engine.trajectory import files, revolve
from worker.engine.trajectory.files import Point
from worker.engine.trajectory.step_store import StepsReader

# Bytes, enough for every network but the largest.
BUDGET = 2**30


@devices.default_torch_modes()
def with_params(training: Training, images: Images, *, device: str = "auto") -> Training:
    """Complete a run with θ_T, training again if its store kept none.

    Args:
        training: finished run.
        images: its N training images.
        device: "cpu", "cuda", or "auto" for the run's device.

    Raises:
        EngineError: the images are not the run's.
        ReplayDrift: the training comes out differently here.
    """
    checks.check_type(training, Training, "run", TRAINING_SOURCES)
    if training.params.numel():
        return training
    checks.check_before_replaying(training.record, images)
    where = devices.choose_device(device, training.record.environment)
    run = restore_runner(training, images, where)
    with devices.deterministic(where, int(training.record.environment["threads"])):
        return replace(training, params=Replay(training, run, BUDGET).final_params().cpu())


@dataclass
class Replay:
    """A finished run whose steps are replayed in either direction.

    Args:
        budget: bytes for parameters and optimizer states in memory.
    """

    training: Training
    run: Runner
    budget: int
    allow_drift: bool = False
    drifted: bool = False
    starts: dict[int, Point] = field(default_factory=dict)

    def check(self, needs: str, span: str, heartbeat: Callable[[], None] = lambda: None) -> None:
        """Check that the run has what a method needs.

        Args:
            heartbeat: called before each read; may raise to stop.

        Raises:
            EngineError: data is missing, damaged, or larger than the budget.
        """
        store = self.training.record.store
        steps, epochs = needs == "steps", needs == "epochs" and span == "all_epochs"
        if steps or epochs:
            self.check_steps()
        if steps and store != "every_step":
            revolve.room_for(
                self.run.steps, self.budget, self._point_bytes(), self._starts_in_memory()
            )
        elif self.budget < 2 * self._point_bytes():
            revolve.room_for(1, self.budget, self._point_bytes())
        if needs in ("steps", "epochs") and self._keeps_starts():
            last = self.run.recipe.epochs
            self._check_files(
                needs, range(last - 1 if span == "last_epoch" else 0, last), heartbeat
            )

    def check_steps(self) -> None:
        if self.training.record.store == "final_params":
            raise EngineError(
                "This run kept its last parameters only, so its steps cannot be replayed; use the "
                "method final_params, or train again with the store epoch_starts."
            )

    def check_repeats(self, epoch: int) -> None:
        """Raise ReplayDrift if an epoch's first step drifts.

        Args:
            epoch: from 0; the first if the store keeps no starts.
        """
        epoch = epoch if self._keeps_starts() else 0
        if not first_step_repeats(self.run, self.training.record, epoch, self.start(epoch)):
            self._drift(epoch)

    def steps_backwards(self, epoch: int) -> Iterator[TrainingStep]:
        """Yield an epoch's steps, last first. Raises ReplayDrift if they drift."""
        order = draw_batches(self.run.recipe, self.run.images, epoch)
        with self.run.prefetch(epoch, order, stride=-1) as batch:
            for t, (params, state) in self._points(epoch, order):
                x, y = batch(t)
                positions = torch.from_numpy(order[t]).to(self.run.device)
                yield TrainingStep(
                    params,
                    state,
                    x,
                    y,
                    positions,
                    self.run.rate(epoch, t),
                    self.run.weights(order[t]),
                )
                # Freed before the next points are made.
                del params, state, x, y

    def steps_forwards(self, epoch: int) -> Iterator[TrainingStep]:
        """Yield an epoch's steps in order. Raises ReplayDrift if they drift."""
        point = self.start(epoch)
        order = draw_batches(self.run.recipe, self.run.images, epoch)
        with self.run.prefetch(epoch, order) as batch:
            for t, positions in enumerate(order):
                x, y = batch(t)
                yield TrainingStep(
                    *point,
                    x,
                    y,
                    torch.from_numpy(positions).to(self.run.device),
                    self.run.rate(epoch, t),
                )
                point = self._advance(point, epoch, t, positions, x, y)
        self._check(epoch, point, self.training.history[epoch].params_hash)

    def start(self, epoch: int) -> Point:
        """Return θ and s at an epoch's start, from its file or the seed.

        Args:
            epoch: from 0; the number of epochs for the run's end.

        Raises:
            EngineError: the file is missing, damaged or another run's.
            ReplayDrift: the replay differs from the run.
        """
        path = files.epoch_file(self.training.folder, epoch)
        if not path.exists() and not self._keeps_starts():
            return self._from_seed(epoch)
        return files.move_point(self._read_start(epoch), self.run.device)

    def _read_start(self, epoch: int) -> Point:
        path = files.epoch_file(self.training.folder, epoch)
        point = files.read_point(path, self.training.record.run)
        if epoch and files.params_hash(point[0]) != self.training.history[epoch - 1].params_hash:
            raise EngineError(
                f"The run's file {path.name} is damaged: it does not hold what the run recorded; "
                "train again in another folder."
            )
        return point

    def final_params(self) -> torch.Tensor:
        """Return θ_T, (P,)."""
        params = (
            self.training.params
            if self.training.params.numel()
            else self.start(self.run.recipe.epochs)[0]
        )
        return params.to(self.run.device)

    def _points(self, epoch: int, order: list[Integers]) -> Iterator[tuple[int, Point]]:
        steps = len(order)
        if self.training.record.store == "every_step":
            for t, point in self._read_steps(epoch, reversed(range(steps))):
                yield t, files.move_point(point, self.run.device)
            return
        room = revolve.room_for(steps, self.budget, self._point_bytes(), self._starts_in_memory())
        with self.run.prefetch(epoch, order) as batch:
            yield from revolve.backwards(
                self.start(epoch),
                steps,
                room,
                lambda point, t: self._advance(point, epoch, t, order[t], *batch(t)),
                self._end_check(epoch),
            )

    def _read_steps(self, epoch: int, steps: Iterable[int]) -> Iterator[tuple[int, Point]]:
        path = files.steps_file(self.training.folder, epoch)
        stored = StepsReader(path, self.training.record.run)
        for t in steps:
            point = stored.point(t)
            # Detects the file of another epoch.
            if t == 1 and files.params_hash(point[0]) != self.training.record.first_steps[epoch]:
                raise files.damaged_error(path)
            yield t, point
            # Freed before the next is read.
            del point

    def _check_files(self, needs: str, epochs: range, heartbeat: Callable[[], None]) -> None:
        """Read each file, which verifies checksums and hashes."""
        for epoch in epochs:
            heartbeat()
            if needs == "epochs":
                self._read_start(epoch + 1)
            elif self.training.record.store == "epoch_starts":
                self._read_start(epoch)
            else:
                for _ in self._read_steps(epoch, range(self.run.steps)):
                    heartbeat()

    def _advance(
        self,
        point: Point,
        epoch: int,
        t: int,
        positions: Integers,
        x: torch.Tensor,
        y: torch.Tensor,
    ) -> Point:
        point = self.run.advance(point, x, y, positions, self.run.rate(epoch, t))[0]
        if t == 0 and self.run.steps > 1 and epoch < len(self.training.record.first_steps):
            self._check(epoch, point, self.training.record.first_steps[epoch])
        return point

    def _from_seed(self, epoch: int) -> Point:
        """Replay up to `epoch`, keeping starts within half the budget."""
        if 0 not in self.starts:
            initial = make_runner(self.run.recipe, self.run.images, None, self.run.device)[1]
            self.starts[0] = (initial, initial_state(self.run.recipe, initial))
        nearest = max(start for start in self.starts if start <= epoch)
        point = self.starts[nearest]
        for before in range(nearest, epoch):
            order = draw_batches(self.run.recipe, self.run.images, before)
            with self.run.prefetch(before, order) as batch:
                for t, positions in enumerate(order):
                    point = self._advance(point, before, t, positions, *batch(t))
            self._check(before, point, self.training.history[before].params_hash)
            if (before + 1) % self._stride() == 0:
                self.starts[before + 1] = point
        return point

    def _keeps_starts(self) -> bool:
        return self.training.record.store in ("epoch_starts", "every_step")

    def _point_bytes(self) -> int:
        params = torch.empty(self.run.network.size, device="meta")
        return files.point_bytes((params, initial_state(self.run.recipe, params)))

    def _stride(self) -> int:
        # Leaves room for the steps.
        points = self.budget // self._point_bytes()
        room = max(1, min(points // 2, points - revolve.LEAST_ROOM))
        return self.run.recipe.epochs // room + 1

    def _starts_in_memory(self) -> int:
        return 0 if self._keeps_starts() else self.run.recipe.epochs // self._stride() + 1

    def _end_check(self, epoch: int) -> revolve.OnEnd:
        return lambda point: self._check(epoch, point, self.training.history[epoch].params_hash)

    def _check(self, epoch: int, point: Point, recorded: str) -> None:
        if files.params_hash(point[0]) != recorded:
            self._drift(epoch)

    def _drift(self, epoch: int) -> None:
        if not self.allow_drift:
            raise ReplayDrift(
                epoch + 1, self.training.record.environment, devices.environment(self.run.device)
            )
        self.drifted = True
