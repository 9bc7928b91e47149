"""Predictions and features of a finished run."""

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
from worker.engine.sweep import (
    Progress,
    concatenate_parts,
    evaluate_params,
    iterate_parts,
    map_logits,
)
from worker.engine.training import checks
from worker.engine.training.validate_network import check_same

if TYPE_CHECKING:
    from worker.engine.training.runner import Training


def _check_training(training: object) -> None:
    from worker.engine.training.runner import TRAINING_SOURCES, Training  # it imports this module

    checks.check_type(training, Training, "run", TRAINING_SOURCES)


@contextmanager
def _open_model(
    training: "Training", images: Images, device: str
) -> Iterator[tuple[Network, torch.Tensor]]:
    """Yield a finished run's network and θ_T, made deterministic."""
    _check_training(training)
    check_images(images, training.recipe, "given")
    if not training.params.numel():
        raise EngineError(
            "This run keeps no parameters, so its model cannot look at images; "
            "`with_params(training, images)` restores them."
        )
    where = devices.choose_device(device, training.record.environment)
    network, _ = build(training.recipe, device=where)
    check_same(network, training.recipe, training.params.to(where), training.record.answers)
    with devices.deterministic(where, int(training.record.environment["threads"])):
        yield network, training.params.to(where)


@devices.default_torch_modes()
def predict(
    training: "Training", images: Images, *, progress: Progress | None = None, device: str = "auto"
) -> np.ndarray:
    """Predict class probabilities, (N, classes) float32.

    Args:
        images: N, fitting the recipe.
        progress: progress(done, total); may raise to stop.
        device: "cpu", "cuda" or "auto" (the run's).

    Raises:
        EngineError: unsuitable images, no parameters kept, or a changed network.
    """
    with _open_model(training, images, device) as (network, params):
        return map_logits(
            network, training.recipe, params, images, lambda logits, _y: logits.softmax(1), progress
        ).numpy()


@devices.default_torch_modes()
def evaluate(training: "Training", images: Images, *, device: str = "auto") -> tuple[float, float]:
    """Compute accuracy (a fraction) and mean loss.

    Arguments and errors: see `predict`.
    """
    with _open_model(training, images, device) as (network, params):
        return evaluate_params(network, training.recipe, params, images)


@devices.default_torch_modes()
def features(training: "Training", images: Images, *, device: str = "auto") -> np.ndarray:
    """Compute inputs of the last linear layer, (N, D) float32.

    Arguments and errors: see `predict`.
    """
    with _open_model(training, images, device) as (network, params), torch.no_grad():
        parts = (
            network.features(params, x).flatten(1)
            for _, x, _ in iterate_parts(network, training.recipe, params, images)
        )
        return concatenate_parts(parts, len(images)).numpy()


@devices.default_torch_modes()
def export_weights(training: "Training", folder: Path | str) -> str:
    """Write the model into a folder of weights; return its SHA-256.

    Raises:
        EngineError: no parameters kept, or a changed network.
    """
    _check_training(training)
    if not training.params.numel():
        raise EngineError(
            "This run keeps no parameters, so there is no model to export; `with_params(training, "
            "images)` restores them."
        )
    network, _ = build(training.recipe)
    check_same(network, training.recipe, training.params, training.record.answers)
    return keep_weights(named_tensors(network, training.params), folder)
