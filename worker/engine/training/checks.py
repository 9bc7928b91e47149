"""Input checks before the first step of long work."""

from numbers import Integral
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch

from worker.engine.errors import EngineError
from worker.engine.images import Images, check_images, unaugmented_batch
from worker.engine.networks.registry import Network
from worker.engine.recipe import Recipe
from worker.engine.trajectory.files import RunRecord


def check_before_training(
    network: Network, recipe: Recipe, images: Images, params: torch.Tensor
) -> None:
    """Run two images through the network at θ_0.

    Args:
        params: θ_0, (P,).

    Raises:
        EngineError: no loss for each image, or a loss that is not a number.
    """
    if len(images) < 2:
        raise EngineError(
            "There is only one training image: leaving it out would leave nothing to learn from. "
            "Give at least two."
        )
    x, y = unaugmented_batch(recipe, images, np.arange(2), params.dtype, params.device)
    with torch.no_grad():
        try:
            logits = network.logits(params, x)
        except EngineError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise EngineError(
                f"The network {recipe.network} cannot take images of shape {recipe.shape}: "
                f"{describe_error(error)}"
            ) from error
        _check_logits(logits, recipe.classes)
        _check_losses(network.losses(params, x, y))


def check_before_scoring(record: RunRecord, images: Images, validation: Images) -> None:
    check_images(validation, record.recipe, "validation")
    check_before_replaying(record, images)


def check_before_replaying(record: RunRecord, images: Images) -> None:
    """Raise EngineError unless a run used exactly these images."""
    check_images(images, record.recipe, "training")
    if record.images != images.digest():
        raise EngineError(
            "These are not the images that the run was trained on; give the same list, with the "
            "same labels and pixels."
        )
    if record.recipe.draws_per_epoch(len(images)) != len(images):
        raise EngineError(
            "This run's epochs do not draw each image once, so its images cannot be scored; use a "
            "run without epoch_images."
        )
    if record.left_out:
        raise EngineError(
            "This run left images out, so its steps cannot be replayed; use the run that it "
            "repeats."
        )


def check_type(value: object, kind: type, name: str, source: str) -> None:
    if not isinstance(value, kind):
        raise EngineError(
            f"The {name} must be given as worker.engine.{kind.__name__}, not as "
            f"{type(value).__name__}; {source}."
        )


def check_folder(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise EngineError(f"Give a folder for the run, as a path, not {value!r}.")
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise EngineError(f"{path.name} is a file; give a folder for the run.")
    return path


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"The folder {path.name} cannot be created ({error.strerror}); give another one for "
            "the run."
        ) from error


def is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_memory_budget(value: object) -> None:
    if not is_integer(value) or value < 1:
        raise EngineError(
            "The memory budget must be a whole number of bytes above 0, such as 2**30, not "
            f"{value!r}."
        )


def describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _check_logits(logits: object, classes: int) -> None:
    if not isinstance(logits, torch.Tensor):
        raise EngineError(
            f"The network returns a {type(logits).__name__}; it must return the tensor of logits, "
            f"(B, {classes}), and nothing else."
        )
    if not logits.is_floating_point():
        raise EngineError(
            f"The network's logits are {logits.dtype}, which has no derivative; they must be "
            "floating point numbers."
        )
    if logits.shape != (2, classes):
        raise EngineError(
            f"The network answers two images with numbers of shape {tuple(logits.shape)}, so there "
            f"is no loss for each image; it must return one row of {classes} logits for each, "
            f"{(2, classes)}, and average nothing."
        )


def _check_losses(losses: torch.Tensor) -> None:
    if losses.shape != (2,):
        raise EngineError(
            f"The loss of two images has the shape {tuple(losses.shape)}, so it is not one for "
            "each image; return one number for each, (2,), and average nothing."
        )
    if not bool(torch.isfinite(losses).all()):
        raise EngineError(
            "The loss of the first images is not a number before any step: check the recipe's "
            "mean and std (a std of 0?) and the weights that the network starts from."
        )
