"""True leave-one-out, which influence predicts (docs/method.md, section 7)."""

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
from worker.engine.training.resume import first_step_repeats
from worker.engine.training.runner import TRAINING_SOURCES, Training, make_runner


@dataclass(frozen=True)
class Removal:
    """A counterfactual run.

    Args:
        measured_change: validation loss without the images − with them.
    """

    training: Training
    measured_change: float


@devices.default_torch_modes()
def leave_out(
    training: Training,
    images: Images,
    validation: Images,
    positions: Integers,
    folder: Path | str,
    *,
    progress: Progress | None = None,
) -> Removal:
    """Repeat a finished run without some images and measure the change.

    Divisor, order, augmentation and seeds stay. A run without stored parameters is trained again.

    Args:
        training: finished run.
        images: its N training images.
        validation: images whose mean loss is measured.
        positions: (K,) int64 within 0…N−1.
        folder: for the new run, or of a run to resume.
        progress: called as progress(done, total); may raise to stop.

    Raises:
        EngineError: invalid images or positions; raised before any training.
        ReplayDrift: the run's first step comes out differently here.
    """
    checks.check_type(training, Training, "run", TRAINING_SOURCES)
    checks.check_before_scoring(training.record, images, validation)
    positions = np.unique(positions)
    if not np.issubdtype(positions.dtype, np.integer):
        raise EngineError(
            "Give the positions of the images to leave out as whole numbers, np.flatnonzero(mask) "
            "for a mask."
        )
    if (
        len(positions) == 0
        or len(positions) >= len(images)
        or positions[0] < 0
        or positions[-1] >= len(images)
    ):
        raise EngineError(
            f"Choose between 1 and {len(images) - 1} of the {len(images)} training images to leave "
            "out."
        )
    mask = np.zeros(len(images), dtype=bool)
    mask[positions] = True
    # Another device rounds differently, which would be measured too.
    device = devices.choose_device("auto", training.record.environment)
    with devices.deterministic(device, int(training.record.environment["threads"])):
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
    run, initial = make_runner(training.recipe, images, device=device)
    if not first_step_repeats(
        run, training.record, 0, (initial, initial_state(run.recipe, initial))
    ):
        raise ReplayDrift(1, training.record.environment, devices.environment(device))
