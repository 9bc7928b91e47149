"""The steps of a finished run, epoch by epoch, last first."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from worker.engine import data, trajectory
from worker.engine.errors import EngineError, ReplayDrift
from worker.engine.optimizers import initial_state
from worker.engine.retrace import TrainingStep
from worker.engine.training import Runner, Training, runner
from worker.engine.trajectory import Point


@dataclass
class Replay:
    """A finished run, ready to be walked backwards. budget: bytes that θ's and optimizer states may take in memory."""

    training: Training
    run: Runner
    budget: int
    allow_drift: bool = False
    drifted: bool = False

    def epoch(self, epoch: int) -> Iterator[TrainingStep]:
        """The steps of epoch `epoch` (from 0), last first. Raises ReplayDrift where the replay does not reach the recorded hash."""
        order = data.batches(self.run.recipe, self.run.images, epoch)

        def advance(point: Point, t: int) -> Point:
            x, y = self.run.batch(epoch, order[t])
            return self.run.advance(point, x, y, order[t], self.run.rate(epoch, t))[0]

        for t, (params, state) in self._points(epoch, len(order), advance):
            x, y = self.run.batch(epoch, order[t])
            positions = torch.from_numpy(order[t])
            weights = None if self.run.keep is None else self.run.keep[positions]
            yield TrainingStep(params, state, x, y, positions, self.run.rate(epoch, t), weights)

    def _points(self, epoch: int, steps: int, advance: trajectory.Advance) -> Iterator[tuple[int, Point]]:
        folder, store = self.training.folder, self.training.record.store
        if store == "final_params":
            raise EngineError("This run kept its last parameters only, so its steps cannot be replayed; use the method final_params.")
        if store == "every_step":
            stored = trajectory.read_steps(trajectory.steps_file(folder, epoch))
            return ((t, stored[t]) for t in reversed(range(steps)))
        return trajectory.backwards(self._start(epoch), steps, self.budget, advance, lambda point: self._check(epoch, point))

    def _start(self, epoch: int) -> Point:
        """θ and s at an epoch's start: from the file, or from the seed by replaying all that comes before."""
        if self.training.record.store != "recipe":
            return trajectory.read_point(trajectory.epoch_file(self.training.folder, epoch))
        run, initial = runner(self.run.recipe, self.run.images, None)
        run.keep = self.run.keep
        point: Point = (initial, initial_state(run.recipe, initial))
        for before in range(epoch):
            for t, positions in enumerate(data.batches(run.recipe, run.images, before)):
                x, y = run.batch(before, positions)
                point = run.advance(point, x, y, positions, run.rate(before, t))[0]
            self._check(before, point)
        return point

    def _check(self, epoch: int, point: Point) -> None:
        if trajectory.params_hash(point[0]) == self.training.history[epoch].params_hash:
            return
        if not self.allow_drift:
            raise ReplayDrift(epoch + 1, self.training.record.environment, trajectory.environment())
        self.drifted = True

    def final_params(self) -> torch.Tensor:
        """θ_T, (P,)."""
        if self.training.record.store != "recipe":
            return self.training.params
        last = self.run.recipe.epochs
        return self._start(last)[0]
