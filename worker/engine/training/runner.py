"""Finished runs, and the state that training steps share."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from worker.engine.derivatives import head
from worker.engine.errors import EngineError
from worker.engine.images import Images, Integers, augmented_batch, check_images
from worker.engine.networks.linear_head import LinearHead
from worker.engine.networks.registry import Network, build
from worker.engine.optimizers import Step, optimizer
from worker.engine.prefetch import Prefetcher
from worker.engine.recipe import Recipe
from worker.engine.training.validate_network import check_same
from worker.engine.trajectory.files import EpochReport, Point, RunRecord
from worker.engine.trajectory.training_dynamics import Signals

TRAINING_SOURCES = "train and load_training return one"


@dataclass(frozen=True)
class Training:
    """A finished run.

    Args:
        record: run.json.
        params: θ_T, (P,); empty if the store keeps none.
    """

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
        """Area under the margin, (N,) float64 (Pleiss et al. 2020)."""
        return self.signals.margins / self.recipe.epochs

    @property
    def params_hash(self) -> str:
        return self.history[-1].params_hash

    @property
    def seconds(self) -> float:
        return sum(report.seconds for report in self.history)


@dataclass
class Runner:
    """State that a run's steps share.

    Args:
        keep: (N,), 0 for images left out, else 1; None for all images.
    """

    recipe: Recipe
    images: Images
    network: Network
    update: Step
    keep: torch.Tensor | None

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def steps(self) -> int:
        return self.recipe.steps_per_epoch(len(self.images))

    def rate(self, epoch: int, t: int) -> float:
        """Return η of step t in an epoch."""
        return self.recipe.rate(epoch * self.steps + t, self.recipe.epochs * self.steps)

    def advance(
        self, point: Point, x: torch.Tensor, y: torch.Tensor, positions: Integers, rate: float
    ) -> tuple[Point, torch.Tensor, torch.Tensor]:
        """Make a step: θ_{t+1}, s_{t+1} = step(θ_t, s_t, g_t).

        Args:
            point: θ_t and s_t.
            x, y: batch, (B, C, H, W) and (B,).
            positions: S_t, (B,).
            rate: η_t.

        Returns:
            The next point, and at θ_t the logits (B, classes) and losses (B,).
        """
        params, state = point
        weights = self.weights(positions)
        if isinstance(self.network, LinearHead):
            gradient, logits, losses = head.step(self.network, params, x, y, weights)
            return self.update(params, state, gradient, rate), logits, losses
        theta = params.detach().requires_grad_()
        with self._precision():
            logits = self.network.logits(theta, x)
        losses = functional.cross_entropy(logits.float(), y, reduction="none")
        # Drops terms, keeps the divisor |S_t| (docs/method.md, section 2).
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
        return augmented_batch(
            self.recipe, self.images, positions, epoch, torch.float32, self.device
        )

    def prefetch(
        self, epoch: int, order: list[Integers], stride: int = 1
    ) -> Prefetcher[tuple[torch.Tensor, torch.Tensor]]:
        """Prefetch x and y of an epoch's steps.

        Args:
            epoch: from 0.
            stride: 1 in order, −1 in reverse.
        """
        return Prefetcher(lambda t: self.batch(epoch, order[t]), len(order), stride)

    def weights(self, positions: Integers) -> torch.Tensor | None:
        """Return weights, (B,) of 1 or 0; None for all images."""
        return None if self.keep is None else self.keep[torch.from_numpy(positions)].to(self.device)

    def _precision(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)


def make_runner(
    recipe: Recipe,
    images: Images,
    leave_out: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Runner, torch.Tensor]:
    """Make a runner and θ_0, (P,), from a recipe.

    Args:
        leave_out: (N,) bool or None.

    Raises:
        EngineError: invalid images, or a network that cannot be built.
    """
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


def restore_runner(training: Training, images: Images, device: torch.device) -> Runner:
    """Make a finished run's runner, or raise EngineError if its network changed."""
    run, _ = make_runner(training.recipe, images, device=device)
    check_network(run, training)
    return run


def check_network(run: Runner, training: Training) -> None:
    """Raise EngineError if the network has changed since the run.

    Runs without parameters fail in their replay instead.
    """
    if training.params.numel():
        check_same(
            run.network, training.recipe, training.params.to(run.device), training.record.answers
        )
