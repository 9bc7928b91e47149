"""Cost estimates in passes, seconds and bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch

from worker.engine.networks.registry import build
from worker.engine.optimizers import initial_state
from worker.engine.recipe import Recipe
from worker.engine.trajectory import files, revolve

# Weights in forward passes (docs/method.md, section 3).
FORWARD = 1
GRADIENT = 3  # forward and backward
DIRECTIONAL = 3  # forward, tangents of input and weights
CURVATURE = 5  # forward, tangent, backward from the logits
FUSED = 8  # inner products and a Hessian product
GROUPS = 12
# Vectors of parameters and of optimizer state in memory, besides those replayed.
HELD, STATES_HELD = 17, 5


@dataclass(frozen=True)
class Sizes:
    """Sizes that a cost depends on.

    Args:
        count: N.
        validation: number of validation images; 0 ignores their cost.
        budget: bytes for replayed parameters.
        verify: also train without the top group.
    """

    recipe: Recipe
    count: int
    span: str
    validation: int = 0
    store: str = "epoch_starts"
    budget: int = 2**30
    verify: bool = False
    damping: float | Literal["auto"] = 1.0
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return 1 if self.span == "last_epoch" else self.recipe.epochs

    @property
    def steps(self) -> int:
        return self.recipe.steps_per_epoch(self.count)

    @property
    def point_bytes(self) -> int:
        """Bytes of θ and optimizer state."""
        params = torch.empty(self.params_bytes // 4, device="meta")
        return files.point_bytes((params, initial_state(self.recipe, params)))

    @property
    def params_bytes(self) -> int:
        return 4 * _sizes(self.recipe)[0]

    @property
    def features_bytes(self) -> int:
        """Bytes per image."""
        return 4 * _sizes(self.recipe)[1]


@lru_cache(maxsize=32)
def _sizes(recipe: Recipe) -> tuple[int, int]:
    network, _ = build(recipe)
    return network.size, network.feature_count


@dataclass(frozen=True)
class ImagePasses:
    """Images per kind of pass, and bytes held and stored."""

    forward: float = 0
    gradient: float = 0
    directional: float = 0
    curvature: float = 0
    fused: float = 0
    held: int = 0
    stored: int = 0

    @property
    def forward_passes(self) -> float:
        return (
            FORWARD * self.forward
            + GRADIENT * self.gradient
            + DIRECTIONAL * self.directional
            + CURVATURE * self.curvature
            + FUSED * self.fused
        )


@dataclass(frozen=True)
class Cost:
    """The cost of a scoring.

    Args:
        passes: forward passes over the training images.
        memory_bytes: at most, without images and activations.
    """

    passes: float
    stored_bytes: int
    memory_bytes: int

    @property
    def epochs(self) -> float:
        return self.passes / GRADIENT

    def seconds(self, epoch_seconds: float) -> float:
        return self.epochs * epoch_seconds


def cost_of(
    image_passes: Callable[[Sizes], ImagePasses], needs: str, predicts: str, sizes: Sizes
) -> Cost:
    """Compute a method's cost, an upper bound for damping "auto"."""
    method_passes = image_passes(sizes)
    images = method_passes.forward_passes
    if sizes.damping == "auto":
        images = len(
            damping_candidates(sizes.recipe.batch_size)
        ) * images + GROUPS * _without_a_group(sizes, sizes.epochs)
    if sizes.verify and predicts:
        epochs = sizes.epochs if predicts == "span" else sizes.recipe.epochs
        images += _without_a_group(sizes, epochs)
        if sizes.store == "final_params":
            images += (
                GRADIENT * sizes.count * (sizes.recipe.epochs - epochs)
            )  # the seed is the only start
    replay_span = (
        min(sizes.budget, (sizes.steps + 1) * sizes.point_bytes) if needs == "steps" else 0
    )
    states = sizes.point_bytes - sizes.params_bytes
    working = (
        HELD * sizes.params_bytes + STATES_HELD * states
        if needs in ("steps", "end", "epochs")
        else 0
    )
    return Cost(
        images / sizes.count,
        _stored(needs, sizes) + method_passes.stored,
        replay_span + working + method_passes.held + 8 * sizes.count,
    )


def damping_candidates(batch_size: int) -> list[float]:
    """Return 1, 1/2, 1/4 … down to 1/|S|."""
    return [0.5**halvings for halvings in range(batch_size.bit_length())]


def count_replayed(sizes: Sizes) -> float:
    """Count the images in the steps that a replay repeats."""
    if sizes.store == "every_step":
        return 0
    # A smaller budget is refused later.
    room = max(revolve.LEAST_ROOM, sizes.budget // sizes.point_bytes)
    again = revolve.replayed_steps(sizes.steps, room) / sizes.steps
    return sizes.count * again * sizes.epochs + count_from_seed(sizes)


def count_from_seed(sizes: Sizes) -> int:
    """Count the images trained again if the store keeps no parameters."""
    return sizes.count * sizes.recipe.epochs if sizes.store == "recipe" else 0


def _without_a_group(sizes: Sizes, epochs: int) -> float:
    return GRADIENT * sizes.count * epochs + 2 * FORWARD * sizes.validation


def _stored(needs: str, sizes: Sizes) -> int:
    if needs == "nothing":
        return 0
    if sizes.store == "recipe":
        return 0
    if sizes.store == "final_params" or needs == "end":
        return sizes.params_bytes
    every_step = sizes.recipe.epochs * sizes.steps if sizes.store == "every_step" else 0
    return (every_step + sizes.recipe.epochs + 1) * sizes.point_bytes
