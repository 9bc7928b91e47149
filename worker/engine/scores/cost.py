"""What a method costs, before it is started: passes over the images, seconds, bytes.

A *look* is one image through the network, forward or more; its weight is how many forward passes it takes, counted in convolution-sized
products of a deep network (influence.md, section 3: a training step takes 3, the fused pass 8).
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

# Forward passes that one look of each kind takes.
FORWARD = 1
GRADIENT = 3  # forward and backward: a training step
DIRECTIONAL = 3  # forward, and its tangent: one product for the tangent of the input, one for that of the weights
CURVATURE = 5  # a Gauss–Newton product: forward, tangent, backward from the logits
FUSED = 8  # the fused pass: inner products and a Hessian product
# Groups that are really left out to choose a damping.
GROUPS = 12
# Sets of parameters that a method holds at most besides the replayed ones: θ_T, u, v, the gradient, H v, what torch needs between them, and the
# check against finite differences in float64, which is the most of it. And how many of the optimizer's states: their adjoints, and torch's needs.
HELD, STATES_HELD = 17, 5


@dataclass(frozen=True)
class Sizes:
    """What a cost hangs on. count: N. validation: how many images define harm (0 leaves their part out). store: of the run.

    budget: bytes for replayed parameters. verify: whether the effect of the top group is measured too, by really training without it.
    damping: δ, or "auto" to choose it by measuring.
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
        """Epochs of the span."""
        return 1 if self.span == "last_epoch" else self.recipe.epochs

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self.recipe.steps_per_epoch(self.count)

    @property
    def point_bytes(self) -> int:
        """Bytes of θ and the optimizer's state together."""
        params = torch.empty(self.params_bytes // 4, device="meta")
        return files.point_bytes((params, initial_state(self.recipe, params)))

    @property
    def params_bytes(self) -> int:
        """Bytes of θ."""
        return 4 * _sizes(self.recipe)[0]

    @property
    def features_bytes(self) -> int:
        """Bytes of what the last linear layer sees of one image."""
        return 4 * _sizes(self.recipe)[1]


@lru_cache(maxsize=32)
def _sizes(recipe: Recipe) -> tuple[int, int]:
    network, _ = build(recipe)
    return network.size, network.feature_count


@dataclass(frozen=True)
class Looks:
    """How many images the network looks at, by kind of look; and the bytes that a method holds and stores for itself."""

    forward: float = 0
    gradient: float = 0
    directional: float = 0
    curvature: float = 0
    fused: float = 0
    held: int = 0
    stored: int = 0

    @property
    def forward_passes(self) -> float:
        """All looks, as images in one forward pass."""
        return (
            FORWARD * self.forward
            + GRADIENT * self.gradient
            + DIRECTIONAL * self.directional
            + CURVATURE * self.curvature
            + FUSED * self.fused
        )


@dataclass(frozen=True)
class Cost:
    """passes: forward passes over the training images; an epoch of training takes three. stored_bytes: what the run's folder must hold
    for it. memory_bytes: parameters, scores and features in memory at most, beside the images of one pass and their activations.
    """

    passes: float
    stored_bytes: int
    memory_bytes: int

    @property
    def epochs(self) -> float:
        """The work in epochs of training."""
        return self.passes / GRADIENT

    def seconds(self, epoch_seconds: float) -> float:
        """The time, given what one epoch of the training took."""
        return self.epochs * epoch_seconds


def cost_of(looks: Callable[[Sizes], Looks], needs: str, predicts: str, sizes: Sizes) -> Cost:
    """The cost of a method that takes `looks`, needs `needs` of the run and predicts a change (see `Method`); at most, for damping "auto"."""
    own = looks(sizes)
    images = own.forward_passes
    if sizes.damping == "auto":
        images = len(deltas(sizes.recipe.batch_size)) * images + GROUPS * _without_a_group(
            sizes, sizes.epochs
        )
    if sizes.verify and predicts:
        epochs = sizes.epochs if predicts == "span" else sizes.recipe.epochs
        images += _without_a_group(sizes, epochs)
        if sizes.store == "final_params":
            images += (
                GRADIENT * sizes.count * (sizes.recipe.epochs - epochs)
            )  # there is no start to train from but the seed
    replayed = min(sizes.budget, (sizes.steps + 1) * sizes.point_bytes) if needs == "steps" else 0
    states = sizes.point_bytes - sizes.params_bytes
    working = (
        HELD * sizes.params_bytes + STATES_HELD * states
        if needs in ("steps", "end", "epochs")
        else 0
    )
    return Cost(
        images / sizes.count,
        _stored(needs, sizes) + own.stored,
        replayed + working + own.held + 8 * sizes.count,
    )


def deltas(batch_size: int) -> list[float]:
    """The dampings to choose from: 1, 1/2, 1/4 … down to 1/|S|."""
    return [0.5**halvings for halvings in range(batch_size.bit_length())]


def replaying(sizes: Sizes) -> float:
    """Images of the training steps that a replay of the span repeats."""
    if sizes.store == "every_step":
        return 0
    # Where the budget has no room at all, the scoring is refused; the least is as good an answer as any.
    room = max(revolve.LEAST_ROOM, sizes.budget // sizes.point_bytes)
    again = revolve.replayed_steps(sizes.steps, room) / sizes.steps
    return sizes.count * again * sizes.epochs + from_seed(sizes)


def from_seed(sizes: Sizes) -> int:
    """Images of the training steps that lead from the seed to θ_T, where the run's store keeps no parameters."""
    return sizes.count * sizes.recipe.epochs if sizes.store == "recipe" else 0


def _without_a_group(sizes: Sizes, epochs: int) -> float:
    """Training `epochs` again without some images, and two evaluations."""
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
