"""Effect of an image on each validation image (docs/method.md, section 7).

Leaving image i out changes the final parameters by δθ. Exactly, to first order:

    δg_t = H_t δθ_t − [i ∈ S_t] (1/|S_t|) ∇ℓ(z_i; θ_t)
    (δθ_{t+1}, δs_{t+1}) = the update's derivative along (δθ_t, δs_t, δg_t)

Quickly, H δθ = 0 and ∇ℓ_i is from the epoch's end (docs/decisions/0016).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from worker.engine import devices
from worker.engine.derivatives.passes import (
    TrainingStep,
    fused_pass_in_parts,
    mean_gradient,
    mean_gradient_of,
    products,
)
from worker.engine.derivatives.retrace import update_needs_gradient
from worker.engine.errors import EngineError
from worker.engine.images import Images, Integers, draw_batches
from worker.engine.influence.readout import Readout
from worker.engine.influence.replay import BUDGET, Replay
from worker.engine.networks.registry import Network
from worker.engine.optimizers import Step, mask_unmoved_weights, step_jvp
from worker.engine.recipe import check_span
from worker.engine.sweep import Floats, iterate_parts
from worker.engine.training import checks
from worker.engine.training.runner import TRAINING_SOURCES, Training, restore_runner
from worker.engine.trajectory.files import Point, epoch_file

# Steps in which momentum 0.9 spends 97 % of an effect.
CARRY_STEPS = 32


@devices.default_torch_modes()
def explain(
    training: Training,
    images: Images,
    validation: Images,
    position: int,
    *,
    span: str = "last_epoch",
    exact: bool = False,
    device: str = "auto",
) -> np.ndarray:
    """Compute the change of each validation loss if an image were left out.

    Args:
        training: finished run.
        images: its N training images.
        validation: V images.
        position: of the image in `images`.
        span: "last_epoch" or "all_epochs".
        exact: carry the effect through every later step; slow, and needs stored steps.
        device: "cpu", "cuda", or "auto" for the run's device.

    Returns:
        (V,) float64, to first order; the image hurts the lowest most.

    Raises:
        EngineError: invalid input.
        ReplayDrift: an exact explanation is not possible here.
    """
    _check(training, images, validation, position, span)
    with _effect(training, images, position, span, exact, device) as (network, params, effect):
        return loss_changes(network, training, params, effect, validation)


@devices.default_torch_modes()
def explain_most(
    training: Training,
    images: Images,
    validation: Images,
    position: int,
    readout: Readout,
    *,
    count: int = 96,
    span: str = "last_epoch",
    device: str = "auto",
) -> tuple[Integers, Floats]:
    """Explain quickly, for the validation images probably affected most.

    Args:
        training, images, validation, position, span, device: as for `explain`.
        readout: by `read_out`, of the same run and validation images.
        count: images to examine at most.

    Returns:
        Positions (K,) and changes (K,), lowest change first.

    Raises:
        EngineError: invalid input.
    """
    _check(training, images, validation, position, span)
    checks.check_type(readout, Readout, "readout", "read_out makes one")
    readout.check(training, validation)
    with _effect(training, images, position, span, False, device) as (network, params, effect):
        chosen = readout.candidates(*network.last_layer(effect), count)
        changes = loss_changes(network, training, params, effect, validation.subset(chosen))
    order = np.argsort(changes, kind="stable")
    return chosen[order], changes[order]


@contextmanager
def _effect(
    training: Training, images: Images, position: int, span: str, exact: bool, device: str
) -> Iterator[tuple[Network, torch.Tensor, torch.Tensor]]:
    """Yield the network, θ_T and δθ, (P,) each, in a deterministic context."""
    where = devices.choose_device(device, training.record.environment)
    run = restore_runner(training, images, where)
    replay = Replay(training, run, BUDGET)
    if exact:
        replay.check_steps()
    epochs = range(
        training.recipe.epochs - 1 if span == "last_epoch" else 0, training.recipe.epochs
    )
    with devices.deterministic(where, int(training.record.environment["threads"])):
        effect = (
            compute_exact_effect(replay, position, epochs)
            if exact
            else compute_quick_effect(replay, position, epochs)
        )
        yield run.network, replay.final_params(), effect


def loss_changes(
    network: Network,
    training: Training,
    params: torch.Tensor,
    effect: torch.Tensor,
    validation: Images,
) -> np.ndarray:
    """Compute ⟨δθ, ∇ℓ(z_j; θ_T)⟩ of every validation image, (V,) float64.

    Args:
        params: θ_T, (P,).
        effect: δθ, (P,).
    """
    result = np.empty(len(validation))
    for chunk, x, y in iterate_parts(network, training.recipe, params, validation, "products"):
        result[chunk] = products(network, params, effect, x, y).double().cpu().numpy()
    return result


def compute_exact_effect(replay: Replay, position: int, epochs: range) -> torch.Tensor:
    """Compute δθ_T to first order through every step, (P,)."""
    run = replay.run
    tangent: Point | None = None
    for epoch in epochs:
        for step in replay.steps_forwards(epoch):
            removed = torch.nonzero(step.positions == position).flatten()
            if tangent is None and not len(removed):
                continue
            tangent = carry_forward(run.network, run.update, step, tangent, removed)
    assert tangent is not None  # every image is drawn once an epoch
    return tangent[0]


def carry_forward(
    network: Network, update: Step, step: TrainingStep, tangent: Point | None, removed: torch.Tensor
) -> Point:
    """Carry (δθ_t, δs_t) through a step to (δθ_{t+1}, δs_{t+1}).

    Args:
        tangent: (δθ_t, δs_t); None before the first change.
        removed: places in the batch of the images left out, (K,).
    """
    zero = torch.zeros_like(step.params)
    d_params, d_state = tangent or (
        zero,
        {key: torch.zeros_like(value) for key, value in step.state.items()},
    )
    # δg = H δθ − (1/|S|) ∇ℓ_i
    gradient_tangent = zero if tangent is None else fused_pass_in_parts(network, step, d_params)[1]
    if len(removed):
        gradient_tangent = gradient_tangent - mean_gradient_of(
            network, step.params, step.x[removed], step.y[removed]
        ) * (len(removed) / len(step.y))
    gradient = mean_gradient(network, step) if update_needs_gradient(step.state) else zero
    return step_jvp(
        update,
        step.params,
        step.state,
        gradient,
        step.learning_rate,
        d_params,
        d_state,
        gradient_tangent,
    )


def compute_quick_effect(replay: Replay, position: int, epochs: range) -> torch.Tensor:
    """Compute δθ_T with H δθ = 0, (P,)."""
    run = replay.run
    total = torch.zeros_like(replay.final_params())
    for epoch in epochs:
        params, state = _point_after(replay, epoch)
        order = draw_batches(run.recipe, run.images, epoch)
        t = next(t for t, positions in enumerate(order) if position in positions)
        x, y = run.batch(epoch, np.array([position]))
        gradient_tangent = -mean_gradient_of(run.network, params, x, y) / len(order[t])
        total += _carry_change(
            run.update,
            (params, state),
            run.rate(epoch, t),
            gradient_tangent,
            run.steps * (run.recipe.epochs - epoch) - t,
        )
    return total


def _carry_change(
    update: Step, point: Point, rate: float, gradient_tangent: torch.Tensor, steps: int
) -> torch.Tensor:
    """Sum the effect of a step's δg, (P,), optimizer state included."""
    params, state = point
    zero = torch.zeros_like(params)
    gradient_tangent = mask_unmoved_weights(state, gradient_tangent)
    tangent: Point = (zero, {key: torch.zeros_like(value) for key, value in state.items()})
    for _ in range(min(steps, CARRY_STEPS) if state else 1):
        tangent = step_jvp(
            update, params, state, zero, rate, tangent[0], tangent[1], gradient_tangent
        )
        gradient_tangent = zero
    return tangent[0]


def _point_after(replay: Replay, epoch: int) -> Point:
    """Return θ and s at an epoch's end if on disk, else at the run's end."""
    on_disk = epoch_file(replay.training.folder, epoch + 1).exists()
    return replay.start(epoch + 1 if on_disk else replay.run.recipe.epochs)


def _check(
    training: Training, images: Images, validation: Images, position: int, span: str
) -> None:
    checks.check_type(training, Training, "run", TRAINING_SOURCES)
    checks.check_before_scoring(training.record, images, validation)
    if not (checks.is_integer(position) and 0 <= position < len(images)):
        raise EngineError(
            f"Choose an image by a whole number between 0 and {len(images) - 1}, not {position!r}."
        )
    check_span(span)
