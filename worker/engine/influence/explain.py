"""Which validation images an image hurts and helps (influence.md, section 7).

Leaving image i out changes the parameters at the end by some δθ; one JVP of the validation losses along δθ gives the change of every one of
them. δθ is to be had in two ways:

- exactly, to first order: the removal's perturbation is carried forward through every later step of the span,
      δg_t = H_t δθ_t − [i ∈ S_t] (1/|S_t|) ∇ℓ(z_i; θ_t) ,   (δθ_{t+1}, δs_{t+1}) = the update's derivative along (δθ_t, δs_t, δg_t)
  which is the retracing's recursion turned round: the mean of the changes is the image's sgd_influence. It costs a retracing.
- at once: as if no later step bent it (H δθ = 0), with ∇ℓ_i taken at the end of each epoch of the span, where θ is on disk. The optimizer's
  state still carries it on, so momentum and Adam count in full.

docs/decisions/0016 has how well each agrees with really leaving the image out. Where only the most affected images are asked for, the last layer says
which they probably are (readout.py), and the JVP is taken of those alone.
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
from worker.engine.images import Images, Integers, batches
from worker.engine.influence.readout import Readout
from worker.engine.influence.replay import BUDGET, Replay
from worker.engine.networks.registry import Network
from worker.engine.optimizers import Step, felt, step_jvp
from worker.engine.recipe import check_span
from worker.engine.sweep import Floats, walk
from worker.engine.training import checks
from worker.engine.training.runner import MAKERS, Training, runner_of
from worker.engine.trajectory.files import Point, epoch_file

# Steps over which the optimizer's state carries an effect on: momentum 0.9 has spent 97 % of it by then.
CARRIED = 32


@devices.ordinary_modes()
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
    """The change of each validation image's loss if the span had been trained without an image, (N_validation,) float64; low = hurt most.

    position: of the image in `images`, the run's N training images. span: as for `score`. exact: carry the effect through every later step
    (minutes rather than a second, and the store must allow it). device: as for `score`. A first-order view for "why", not the influence that ranks.

    Raises EngineError for input that does not fit, ReplayDrift where an exact explanation cannot be had here.
    """
    _check(training, images, validation, position, span)
    with _effect(training, images, position, span, exact, device) as (network, params, effect):
        return changes(network, training, params, effect, validation)


@devices.ordinary_modes()
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
    """`explain`, quick, for the validation images that are probably hurt and helped most: positions (K,) and changes (K,), lowest change first.

    readout: of this run and these validation images, by `read_out`. count: the most that are looked at in full.
    The other arguments, and the errors, are those of `explain`.
    """
    _check(training, images, validation, position, span)
    checks.given(readout, Readout, "readout", "read_out makes one")
    readout.check(training, validation)
    with _effect(training, images, position, span, False, device) as (network, params, effect):
        chosen = readout.candidates(*network.last_layer(effect), count)
        found = changes(network, training, params, effect, validation.subset(chosen))
    order = np.argsort(found, kind="stable")
    return chosen[order], found[order]


@contextmanager
def _effect(
    training: Training, images: Images, position: int, span: str, exact: bool, device: str
) -> Iterator[tuple[Network, torch.Tensor, torch.Tensor]]:
    """The network, θ_T (P,) and δθ (P,), within a context that repeats bit for bit."""
    where = devices.choose(device, training.record.environment)
    run = runner_of(training, images, where)
    replay = Replay(training, run, BUDGET)
    if exact:
        replay.check_steps()
    epochs = range(
        training.recipe.epochs - 1 if span == "last_epoch" else 0, training.recipe.epochs
    )
    with devices.exact(where, int(training.record.environment["threads"])):
        effect = (
            exact_effect(replay, position, epochs)
            if exact
            else quick_effect(replay, position, epochs)
        )
        yield run.network, replay.final_params(), effect


def changes(
    network: Network,
    training: Training,
    params: torch.Tensor,
    effect: torch.Tensor,
    validation: Images,
) -> np.ndarray:
    """⟨δθ, ∇ℓ(z_j; θ_T)⟩ of every validation image, (N_validation,)."""
    result = np.empty(len(validation))
    for chunk, x, y in walk(network, training.recipe, params, validation, "products"):
        result[chunk] = products(network, params, effect, x, y).double().cpu().numpy()
    return result


def exact_effect(replay: Replay, position: int, epochs: range) -> torch.Tensor:
    """δθ_T (P,) when `epochs` are trained without the image, to first order and through every step."""
    run = replay.run
    moved: Point | None = None
    for epoch in epochs:
        for step in replay.forwards(epoch):
            gone = torch.nonzero(step.positions == position).flatten()
            if moved is None and not len(gone):
                continue
            moved = carry(run.network, run.update, step, moved, gone)
    assert moved is not None  # every image is drawn once an epoch
    return moved[0]


def carry(
    network: Network, update: Step, step: TrainingStep, moved: Point | None, gone: torch.Tensor
) -> Point:
    """(δθ_{t+1}, δs_{t+1}) from (δθ_t, δs_t), None for nothing yet; gone: places in the batch of the images that are left out, (K,)."""
    zero = torch.zeros_like(step.params)
    d_params, d_state = moved or (
        zero,
        {key: torch.zeros_like(value) for key, value in step.state.items()},
    )
    # δg = H δθ − (1/|S|) ∇ℓ_i
    bent = zero if moved is None else fused_pass_in_parts(network, step, d_params)[1]
    if len(gone):
        bent = bent - mean_gradient_of(network, step.params, step.x[gone], step.y[gone]) * (
            len(gone) / len(step.y)
        )
    gradient = mean_gradient(network, step) if update_needs_gradient(step.state) else zero
    return step_jvp(
        update, step.params, step.state, gradient, step.learning_rate, d_params, d_state, bent
    )


def quick_effect(replay: Replay, position: int, epochs: range) -> torch.Tensor:
    """δθ_T (P,) as if later steps did not bend it: the sum over the epochs of what leaving out the image's step in each would have moved."""
    run = replay.run
    total = torch.zeros_like(replay.final_params())
    for epoch in epochs:
        params, state = _point_after(replay, epoch)
        order = batches(run.recipe, run.images, epoch)
        t = next(t for t, positions in enumerate(order) if position in positions)
        x, y = run.batch(epoch, np.array([position]))
        bent = -mean_gradient_of(run.network, params, x, y) / len(order[t])
        total += _carried(
            run.update,
            (params, state),
            run.rate(epoch, t),
            bent,
            run.steps * (run.recipe.epochs - epoch) - t,
        )
    return total


def _carried(
    update: Step, point: Point, rate: float, bent: torch.Tensor, steps: int
) -> torch.Tensor:
    """What a change of one step's gradient, δg (P,), moves in all: at once, and through the optimizer's state in later steps."""
    params, state = point
    zero = torch.zeros_like(params)
    bent = felt(state, bent)
    moved: Point = (zero, {key: torch.zeros_like(value) for key, value in state.items()})
    for _ in range(min(steps, CARRIED) if state else 1):
        moved = step_jvp(update, params, state, zero, rate, moved[0], moved[1], bent)
        bent = zero
    return moved[0]


def _point_after(replay: Replay, epoch: int) -> Point:
    """θ and s at the end of an epoch where they are on disk; at the end of the run where not."""
    known = epoch_file(replay.training.folder, epoch + 1).exists()
    return replay.start(epoch + 1 if known else replay.run.recipe.epochs)


def _check(
    training: Training, images: Images, validation: Images, position: int, span: str
) -> None:
    checks.given(training, Training, "run", MAKERS)
    checks.before_scoring(training.record, images, validation)
    if not (checks.whole(position) and 0 <= position < len(images)):
        raise EngineError(
            f"Choose an image by a whole number between 0 and {len(images) - 1}, not {position!r}."
        )
    check_span(span)
