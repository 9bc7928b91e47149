"""Everything that each step of a training shares."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from worker.engine.errors import EngineError
from worker.engine.images import Images, Integers, augmented_batch, check_images
from worker.engine.networks.registry import Network, build
from worker.engine.optimizers import Step, optimizer
from worker.engine.prefetch import Ahead
from worker.engine.recipe import Recipe
from worker.engine.training.validate_network import check_same
from worker.engine.trajectory.files import EpochReport, Point, RunRecord
from worker.engine.trajectory.training_dynamics import Signals

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
        (gradient,) = torch.autograd.grad(
            (losses if weights is None else losses * weights).mean(), theta
        )
        with torch.no_grad():
            return (
                self.update(params, state, gradient, rate),
                logits.detach().float(),
                losses.detach(),
            )

    def batch(self, epoch: int, positions: Integers) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y of one step, on the device."""
        return augmented_batch(
            self.recipe, self.images, positions, epoch, torch.float32, self.device
        )

    def batches(
        self, epoch: int, order: list[Integers], towards: int = 1
    ) -> Ahead[tuple[torch.Tensor, torch.Tensor]]:
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
    recipe: Recipe,
    images: Images,
    leave_out: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Runner, torch.Tensor]:
    """The shared parts of a run and θ_0. leave_out: (N,) bool."""
    check_images(images, recipe, "training")
    device = torch.device(device)
    if (
        recipe.precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported()
    ):
        raise EngineError("This GPU does not compute in bfloat16; choose the precision float32.")
    network, initial = build(recipe, device=device)
    keep = (
        None
        if leave_out is None or not leave_out.any()
        else torch.from_numpy(~leave_out).to(torch.float32)
    )
    return Runner(recipe, images, network, optimizer(recipe), keep), initial


def runner_of(training: Training, images: Images, device: torch.device) -> Runner:
    """The shared parts of a finished run. Raises EngineError where its network is another one by now."""
    run, _ = runner(training.recipe, images, device=device)
    check_network(run, training)
    return run


def check_network(run: Runner, training: Training) -> None:
    """Raises EngineError where the network is not the one that the run was trained with; a run without parameters shows it when it is replayed."""
    if training.params.numel():
        check_same(
            run.network, training.recipe, training.params.to(run.device), training.record.answers
        )
