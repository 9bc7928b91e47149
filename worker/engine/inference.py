"""What a model says about images, part by part: nothing here holds the activations of more images than one pass takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from worker.engine import devices
from worker.engine.errors import EngineError
from worker.engine.images import Images, check_images
from worker.engine.networks.registry import Network, build, named_tensors
from worker.engine.networks.weights import keep_weights
from worker.engine.sweep import Progress, _joined, evaluate_params, of_logits, walk
from worker.engine.training import checks
from worker.engine.training.validate_network import check_same

if TYPE_CHECKING:
    from worker.engine.training.runner import Training


def _check_given(training: object) -> None:
    """Raises EngineError unless it is a run."""
    from worker.engine.training.runner import MAKERS, Training  # which imports this file

    checks.given(training, Training, "run", MAKERS)


@contextmanager
def _model(
    training: "Training", images: Images, device: str
) -> Iterator[tuple[Network, torch.Tensor]]:
    """The finished run's network and θ_T on a device, within a context that repeats bit for bit."""
    _check_given(training)
    check_images(images, training.recipe, "given")
    if not training.params.numel():
        raise EngineError(
            "This run keeps no parameters, so its model cannot look at images; `with_params(training, images)` has them back."
        )
    where = devices.choose(device, training.record.environment)
    network, _ = build(training.recipe, device=where)
    check_same(network, training.recipe, training.params.to(where), training.record.answers)
    with devices.exact(where, int(training.record.environment["threads"])):
        yield network, training.params.to(where)


@devices.ordinary_modes()
def predict(
    training: "Training", images: Images, *, progress: Progress | None = None, device: str = "auto"
) -> np.ndarray:
    """Probabilities of the finished run's model, (N, classes) float32."""
    with _model(training, images, device) as (network, params):
        return of_logits(
            network, training.recipe, params, images, lambda logits, _y: logits.softmax(1), progress
        ).numpy()


@devices.ordinary_modes()
def evaluate(training: "Training", images: Images, *, device: str = "auto") -> tuple[float, float]:
    """(accuracy as a fraction, mean loss) of the finished run's model."""
    with _model(training, images, device) as (network, params):
        return evaluate_params(network, training.recipe, params, images)


@devices.ordinary_modes()
def features(training: "Training", images: Images, *, device: str = "auto") -> np.ndarray:
    """What the last linear layer sees, (N, D) float32."""
    with _model(training, images, device) as (network, params), torch.no_grad():
        parts = (
            network.features(params, x).flatten(1)
            for _, x, _ in walk(network, training.recipe, params, images)
        )
        return _joined(parts, len(images)).numpy()


@devices.ordinary_modes()
def export_weights(training: "Training", folder: Path | str) -> str:
    """Write the finished run's model into a folder of weights, as safetensors; returns its SHA-256, for `Recipe.weights` or for other programs."""
    _check_given(training)
    if not training.params.numel():
        raise EngineError(
            "This run keeps no parameters, so there is no model to export; `with_params(training, images)` has them back."
        )
    network, _ = build(training.recipe)
    check_same(network, training.recipe, training.params, training.record.answers)
    return keep_weights(named_tensors(network, training.params), folder)
