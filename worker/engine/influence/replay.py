"""The steps of a finished run, epoch by epoch, last first."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from worker.engine import devices
from worker.engine.derivatives.passes import TrainingStep
from worker.engine.errors import EngineError, ReplayDrift
from worker.engine.images import Images, Integers, batches
from worker.engine.optimizers import initial_state
from worker.engine.training import checks
from worker.engine.training.resume import repeats
from worker.engine.training.runner import MAKERS, Runner, Training, runner, runner_of
from worker.engine.trajectory import files, revolve
from worker.engine.trajectory.files import Point
from worker.engine.trajectory.step_store import StepsReader

# Bytes for replayed parameters where nobody said how many: enough for every network but the largest.
BUDGET = 2**30


@devices.ordinary_modes()
def with_params(training: Training, images: Images, *, device: str = "auto") -> Training:
    """The finished run with θ_T at hand: itself, or where its store keeps no parameters (`recipe`), with them trained again from the seed.

    images: the N training images of the run. Raises EngineError for others, ReplayDrift where the training does not come out here as it did.
    """
    checks.given(training, Training, "run", MAKERS)
    if training.params.numel():
        return training
    checks.before_replaying(training.record, images)
    where = devices.choose(device, training.record.environment)
    run = runner_of(training, images, where)
    with devices.exact(where, int(training.record.environment["threads"])):
        return replace(training, params=Replay(training, run, BUDGET).final_params().cpu())


@dataclass
class Replay:
    """A finished run, ready to be walked backwards. budget: bytes that θ's and optimizer states may take in memory."""

    training: Training
    run: Runner
    budget: int
    allow_drift: bool = False
    drifted: bool = False
    # Epoch starts that were replayed from the seed, where the store keeps none.
    starts: dict[int, Point] = field(default_factory=dict)

    def check(self, needs: str, span: str, beat: Callable[[], None] = lambda: None) -> None:
        """Raises EngineError where what a method needs of this run (`Method.needs`) cannot be had, is damaged, or not within the budget.

        beat: called before each set of parameters that is read; may raise to stop.
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
            # Also raised for what needs no steps: two sets of parameters are the least that any retracing holds.
            revolve.room_for(1, self.budget, self._point_bytes())
        if needs in ("steps", "epochs") and self._keeps_starts():
            last = self.run.recipe.epochs
            self._check_files(needs, range(last - 1 if span == "last_epoch" else 0, last), beat)

    def check_steps(self) -> None:
        """Raises EngineError where the run's steps are lost."""
        if self.training.record.store == "final_params":
            raise EngineError(
                "This run kept its last parameters only, so its steps cannot be replayed; use the method final_params, "
                "or train again with the store epoch_starts."
            )

    def check_repeats(self, epoch: int) -> None:
        """Repeat the first step of epoch `epoch` (from 0), or of the first where the store keeps no starts. Raises ReplayDrift if it drifts."""
        epoch = epoch if self._keeps_starts() else 0
        if not repeats(self.run, self.training.record, epoch, self.start(epoch)):
            self._drift(epoch)

    def epoch(self, epoch: int) -> Iterator[TrainingStep]:
        """The steps of epoch `epoch` (from 0), last first. Raises ReplayDrift where the replay does not reach the recorded hash."""
        order = batches(self.run.recipe, self.run.images, epoch)
        with self.run.batches(epoch, order, towards=-1) as batch:
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
                # Not to be held while the next points are made.
                del params, state, x, y

    def forwards(self, epoch: int) -> Iterator[TrainingStep]:
        """The steps of epoch `epoch` (from 0), first to last, from its start. Raises ReplayDrift where that does not end where the run did."""
        point = self.start(epoch)
        order = batches(self.run.recipe, self.run.images, epoch)
        with self.run.batches(epoch, order) as batch:
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
        """θ and s at the start of epoch `epoch` (from 0; the number of epochs: at the end), from its file or replayed from the seed.

        Raises EngineError where the file is missing, damaged or another run's, ReplayDrift where the replay is not the run.
        """
        path = files.epoch_file(self.training.folder, epoch)
        if not path.exists() and not self._keeps_starts():
            return self._from_seed(epoch)
        return files.placed(self._read_start(epoch), self.run.device)

    def _read_start(self, epoch: int) -> Point:
        """θ and s from the file of an epoch's start. Raises EngineError where it is missing, damaged or another run's."""
        path = files.epoch_file(self.training.folder, epoch)
        point = files.read_point(path, self.training.record.run)
        if epoch and files.params_hash(point[0]) != self.training.history[epoch - 1].params_hash:
            raise EngineError(
                f"The run's file {path.name} is damaged: it does not hold what the run recorded; train again in another folder."
            )
        return point

    def final_params(self) -> torch.Tensor:
        """θ_T, (P,)."""
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
                yield t, files.placed(point, self.run.device)
            return
        room = revolve.room_for(steps, self.budget, self._point_bytes(), self._starts_in_memory())
        with self.run.batches(epoch, order) as batch:
            yield from revolve.backwards(
                self.start(epoch),
                steps,
                room,
                lambda point, t: self._advance(point, epoch, t, order[t], *batch(t)),
                self._arrived(epoch),
            )

    def _read_steps(self, epoch: int, steps: Iterable[int]) -> Iterator[tuple[int, Point]]:
        """Points of an epoch from its file, one at a time. Raises EngineError where it is missing, damaged, another run's or epoch's."""
        path = files.steps_file(self.training.folder, epoch)
        stored = StepsReader(path, self.training.record.run)
        for t in steps:
            point = stored.point(t)
            # Another epoch's file would have its place in the run wrong; after its first step it shows.
            if t == 1 and files.params_hash(point[0]) != self.training.record.first_steps[epoch]:
                raise files.damaged(path)
            yield t, point
            # Not to be held while the next is read.
            del point

    def _check_files(self, needs: str, epochs: range, beat: Callable[[], None]) -> None:
        """Read what the epochs' files hold, one set of parameters at a time, which compares their checksums and the hashes that the run recorded."""
        for epoch in epochs:
            beat()
            if needs == "epochs":
                self._read_start(epoch + 1)
            elif self.training.record.store == "epoch_starts":
                self._read_start(epoch)
            else:
                for _ in self._read_steps(epoch, range(self.run.steps)):
                    beat()

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
        """Replay all epochs before, from the nearest start that is at hand; on the way, keep as many starts as half the budget holds."""
        if 0 not in self.starts:
            initial = runner(self.run.recipe, self.run.images, None, self.run.device)[1]
            self.starts[0] = (initial, initial_state(self.run.recipe, initial))
        nearest = max(start for start in self.starts if start <= epoch)
        point = self.starts[nearest]
        for before in range(nearest, epoch):
            order = batches(self.run.recipe, self.run.images, before)
            with self.run.batches(before, order) as batch:
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
        """Every how many epochs a start that was replayed from the seed is kept: at most half the budget, and never what the steps need."""
        points = self.budget // self._point_bytes()
        room = max(1, min(points // 2, points - revolve.LEAST_ROOM))
        return self.run.recipe.epochs // room + 1

    def _starts_in_memory(self) -> int:
        """How many epoch starts stay in memory beside the steps of one epoch."""
        return 0 if self._keeps_starts() else self.run.recipe.epochs // self._stride() + 1

    def _arrived(self, epoch: int) -> revolve.Arrived:
        """Checks that a replay of `epoch` ended where the run did."""
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
