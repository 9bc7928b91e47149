"""What leaving images out really does: the truth that influence predicts (influence.md, section 7)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worker.engine import devices
from worker.engine.errors import EngineError, ReplayDrift
from worker.engine.images import Images, Integers
from worker.engine.inference import evaluate
from worker.engine.influence.replay import with_params
from worker.engine.optimizers import initial_state
from worker.engine.sweep import Progress
from worker.engine.training import checks
from worker.engine.training.loop import train
from worker.engine.training.resume import repeats
from worker.engine.training.runner import MAKERS, Training, runner


@dataclass(frozen=True)
class Removal:
    """A counterfactual run. measured_change: validation loss without the images − with them; negative: they were harmful."""

    training: Training
    measured_change: float


@devices.ordinary_modes()
def leave_out(
    training: Training,
    images: Images,
    validation: Images,
    positions: Integers,
    folder: Path | str,
    *,
    progress: Progress | None = None,
) -> Removal:
    """Repeat a finished run without the images at `positions`, into `folder` (resuming what is there), and measure the change.

    Their terms are dropped; divisor, order, augmentation and seeds stay, so this is the counterfactual that `sgd_influence` with the span
    all_epochs is the first-order estimate of. images: the N training images of the run. positions: (K,) int64 within 0…N−1.

    A run that keeps no parameters is trained again first, to have something to compare with.

    Raises EngineError, before anything is trained, for images that are not the run's or do not fit, and for positions that are none, outside the
    list, or all of it; ReplayDrift where the run's own first step does not come out here as it did: the change measured would be that of the
    machine, too.
    """
    checks.given(training, Training, "run", MAKERS)
    checks.before_scoring(training.record, images, validation)
    positions = np.unique(positions)
    if not np.issubdtype(positions.dtype, np.integer):
        raise EngineError(
            "Give the positions of the images to leave out as whole numbers, np.flatnonzero(mask) for a mask."
        )
    if (
        len(positions) == 0
        or len(positions) >= len(images)
        or positions[0] < 0
        or positions[-1] >= len(images)
    ):
        raise EngineError(
            f"Choose between 1 and {len(images) - 1} of the {len(images)} training images to leave out."
        )
    mask = np.zeros(len(images), dtype=bool)
    mask[positions] = True
    # Where the run was made: another device rounds differently, and that would be measured too.
    device = devices.choose("auto", training.record.environment)
    with devices.exact(device, int(training.record.environment["threads"])):
        _check_repeats(training, images, device)
        training = with_params(training, images)
        without = train(
            training.recipe,
            images,
            None,
            folder,
            leave_out=mask,
            progress=progress,
            device=device.type,
        )
    return Removal(without, evaluate(without, validation)[1] - evaluate(training, validation)[1])


def _check_repeats(training: Training, images: Images, device: torch.device) -> None:
    """Raises ReplayDrift unless the run's first step, from its seed, comes out here as it did."""
    run, initial = runner(training.recipe, images, device=device)
    if not repeats(run, training.record, 0, (initial, initial_state(run.recipe, initial))):
        raise ReplayDrift(1, training.record.environment, devices.environment(device))
