"""Costs of a method before it starts: passes, seconds and bytes.

Passes are weighted by convolution-sized products (docs/method.md, section 3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch

from worker.engine.networks.registry import build
from worker.engine.optimizers import initial_state
from worker.engine.recipe import Recipe
from worker.engine.trajectory import files, revolve

# Weights of the passes, in forward passes.
FORWARD = 1
GRADIENT = 3  # forward and backward: a training step
DIRECTIONAL = 3  # forward, and the tangents of input and weights
CURVATURE = 5  # a Gauss–Newton product: forward, tangent, backward from the logits
FUSED = 8  # the fused pass: inner products and a Hessian product
GROUPS = 12
# Sets of parameters held besides the replayed: θ_T, u, v, the gradient, H v, torch's own, and
# mostly the finite differences in float64. Then the same for optimizer states.
HELD, STATES_HELD = 17, 5


@dataclass(frozen=True)
class Sizes:
    """Sizes that a cost depends on.

    Args:
        recipe: of the run.
        count: N.
        span: "last_epoch" or "all_epochs".
        validation: images that define harm; 0 leaves their part out.
        store: of the run.
        budget: bytes for replayed parameters.
        verify: also train without the top group.
        damping: δ, or "auto" to choose it by measuring.
        options: the method's own.
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
        """Bytes of θ and the optimizer's state together."""
        params = torch.empty(self.params_bytes // 4, device="meta")
        return files.point_bytes((params, initial_state(self.recipe, params)))

    @property
    def params_bytes(self) -> int:
        return 4 * _sizes(self.recipe)[0]

    @property
    def features_bytes(self) -> int:
        """Bytes of one image's features."""
        return 4 * _sizes(self.recipe)[1]


@lru_cache(maxsize=32)
def _sizes(recipe: Recipe) -> tuple[int, int]:
    network, _ = build(recipe)
    return network.size, network.feature_count


@dataclass(frozen=True)
class ImagePasses:
    """Images per kind of pass, and the bytes that a method holds and stores."""

    forward: float = 0
    gradient: float = 0
    directional: float = 0
    curvature: float = 0
    fused: float = 0
    held: int = 0
    stored: int = 0

    @property
    def forward_passes(self) -> float:
        """All passes, as images in a forward pass."""
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
        passes: forward passes over the training images; an epoch of training takes three.
        stored_bytes: in the run's folder.
        memory_bytes: of parameters, scores and features at most, without the images of a pass and
            their activations.
    """

    passes: float
    stored_bytes: int
    memory_bytes: int

    @property
    def epochs(self) -> float:
        """The work in epochs of training."""
        return self.passes / GRADIENT

    def seconds(self, epoch_seconds: float) -> float:
        """Time, given that of a training epoch."""
        return self.epochs * epoch_seconds


def cost_of(
    image_passes: Callable[[Sizes], ImagePasses], needs: str, predicts: str, sizes: Sizes
) -> Cost:
    """Compute the cost of a method, an upper bound for damping "auto"."""
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
    """Dampings to choose from: 1, 1/2, 1/4 … down to 1/|S|."""
    return [0.5**halvings for halvings in range(batch_size.bit_length())]


def count_replayed(sizes: Sizes) -> float:
    """Images of the training steps that a replay of the span repeats."""
    if sizes.store == "every_step":
        return 0
    # A budget without any room is refused later.
    room = max(revolve.LEAST_ROOM, sizes.budget // sizes.point_bytes)
    again = revolve.replayed_steps(sizes.steps, room) / sizes.steps
    return sizes.count * again * sizes.epochs + count_from_seed(sizes)


def count_from_seed(sizes: Sizes) -> int:
    """Images trained from the seed to θ_T, if the store has no parameters."""
    return sizes.count * sizes.recipe.epochs if sizes.store == "recipe" else 0


def _without_a_group(sizes: Sizes, epochs: int) -> float:
    """Work of training without some images, and two evaluations."""
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
