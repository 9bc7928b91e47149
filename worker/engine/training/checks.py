"""Input that would only fail, or mean nothing, after long work: found out before the first step."""

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


def before_training(network: Network, recipe: Recipe, images: Images, params: torch.Tensor) -> None:
    """Look at two images with θ_0 (P,). Raises EngineError where the network has no loss for each image, or its loss is no number."""
    if len(images) < 2:
        raise EngineError(
            "There is a single training image: leaving it out would leave nothing to learn from. Give at least two."
        )
    x, y = unaugmented_batch(recipe, images, np.arange(2), params.dtype, params.device)
    with torch.no_grad():
        try:
            logits = network.logits(params, x)
        except EngineError:
            raise
        except Exception as error:  # somebody else's code may raise anything
            raise EngineError(
                f"The network {recipe.network} cannot take images of shape {recipe.shape}: {in_words(error)}"
            ) from error
        _check_logits(logits, recipe.classes)
        _check_losses(network.losses(params, x, y))


def before_scoring(record: RunRecord, images: Images, validation: Images) -> None:
    """Raises EngineError unless these are the run's images, all of them took part in it, and the validation images fit."""
    check_images(validation, record.recipe, "validation")
    before_replaying(record, images)


def before_replaying(record: RunRecord, images: Images) -> None:
    """Raises EngineError unless these are the run's images, and all of them took part in it."""
    check_images(images, record.recipe, "training")
    if record.images != images.digest():
        raise EngineError(
            "These are not the images that the run was trained on; give the same list, with the same labels and pixels."
        )
    if record.left_out:
        raise EngineError(
            "This run left images out, so its steps cannot be replayed; look at the run that it repeats."
        )


def given(value: object, kind: type, what: str, makers: str) -> None:
    """Raises EngineError unless `what` is of the kind that `makers` make."""
    if not isinstance(value, kind):
        raise EngineError(
            f"The {what} must be given as worker.engine.{kind.__name__}, not as {type(value).__name__}; {makers}."
        )


def folder(value: object) -> Path:
    """A folder for a run, which need not be there yet. Raises EngineError for what is none."""
    if not isinstance(value, str | Path):
        raise EngineError(f"Give a folder for the run, as a path, not {value!r}.")
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise EngineError(f"{path.name} is a file; give a folder for the run.")
    return path


def made(path: Path) -> None:
    """Make a folder. Raises EngineError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"The folder {path.name} cannot be made ({error.strerror}); give another one for the run."
        ) from error


def whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, Python's or NumPy's; True and False are none here."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def memory_budget(value: object) -> None:
    """Raises EngineError unless it is a number of bytes."""
    if not whole(value) or value < 1:
        raise EngineError(
            f"The memory budget must be a whole number of bytes above 0, such as 2**30, not {value!r}."
        )


def in_words(error: Exception) -> str:
    """An error of somebody else's code, in a line: some, like KeyError, say little without their name."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _check_logits(logits: object, classes: int) -> None:
    if not isinstance(logits, torch.Tensor):
        raise EngineError(
            f"The network returns a {type(logits).__name__}; it must return the tensor of logits, (B, {classes}), and nothing else."
        )
    if not logits.is_floating_point():
        raise EngineError(
            f"The network's logits are {logits.dtype}, which has no derivative; they must be floating point numbers."
        )
    if logits.shape != (2, classes):
        raise EngineError(
            f"The network answers two images with numbers of shape {tuple(logits.shape)}, so there is no loss for each image; "
            f"it must return one row of {classes} logits for each, {(2, classes)}, and average nothing."
        )


def _check_losses(losses: torch.Tensor) -> None:
    if losses.shape != (2,):
        raise EngineError(
            f"The loss of two images has the shape {tuple(losses.shape)}, so it is not one for each image; "
            "return one number for each, (2,), and average nothing."
        )
    if not bool(torch.isfinite(losses).all()):
        raise EngineError(
            "The loss of the first images is no number before any step: look at the recipe's mean and std (a std of 0?) "
            "and at the weights that the network starts from."
        )
