"""What a model says about images, part by part: nothing here holds the activations of more images than one pass takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from worker.engine import devices
from worker.engine import images as data
from worker.engine.errors import EngineError
from worker.engine.images import Images
from worker.engine.networks.registry import Network, build, named_tensors
from worker.engine.networks.weights import keep_weights
from worker.engine.prefetch import Ahead
from worker.engine.recipe import Recipe
from worker.engine.training import checks
from worker.engine.training.validate_network import check_same
from worker.engine.trajectory.files import Progress

if TYPE_CHECKING:
    from worker.engine.training.loop import Training

Floats = npt.NDArray[np.float64]


def walk(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    kind: str = "logits",
    *,
    epoch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[data.Integers, torch.Tensor, torch.Tensor]]:
    """All images in parts of one pass of this kind (see `Network.images_a_pass`): (positions (B,), x (B, C, H, W), y (B,)).

    epoch: as augmented in it; None for the images as they are. The next part is read while one is used.
    """
    parts = list(data.chunks(len(images), network.images_a_pass(recipe.shape, kind)))

    def make(t: int) -> tuple[torch.Tensor, torch.Tensor]:
        if epoch is None:
            return data.plain(recipe, images, parts[t], params.dtype, params.device)
        return data.batch(recipe, images, parts[t], epoch, params.dtype, params.device)

    with Ahead(make, len(parts)) as batch:
        for t, positions in enumerate(parts):
            yield positions, *batch(t)
            if progress is not None:
                progress(int(positions[-1]) + 1, len(images))


def of_logits(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    progress: Progress | None = None,
) -> torch.Tensor:
    """compute(logits (B, classes), y (B,)) of every part of the images, one after the other along the first axis, on the CPU."""

    def parts() -> Iterator[torch.Tensor]:
        for _, x, y in walk(network, recipe, params, images, progress=progress):
            yield compute(network.logits(params, x), y)

    with torch.no_grad():
        return _joined(parts(), len(images))


def _joined(parts: Iterator[torch.Tensor], count: int) -> torch.Tensor:
    """Parts along the first axis as one tensor of `count` rows on the CPU.

    Made at once and filled: small tensors kept between large ones that come and go tear the heap into pieces that nothing fits into again,
    which costs as much memory as all images together.
    """
    result = torch.empty(0)
    done = 0
    for part in parts:
        if not done:
            result = torch.empty(count, *part.shape[1:], dtype=part.dtype)
        result[done : done + len(part)] = part
        done += len(part)
    return result


def losses_of(network: Network, recipe: Recipe, params: torch.Tensor, images: Images, progress: Progress | None = None) -> Floats:
    """ℓ(z_i; θ) of all images, (N,)."""

    def losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits.double(), y, reduction="none")

    return of_logits(network, recipe, params, images, losses, progress).numpy()


def evaluate_params(network: Network, recipe: Recipe, params: torch.Tensor, images: Images) -> tuple[float, float]:
    """(accuracy as a fraction, mean loss)."""

    def right_and_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([(logits.argmax(1) == y).double(), functional.cross_entropy(logits.double(), y, reduction="none")], 1)

    accuracy, loss = of_logits(network, recipe, params, images, right_and_loss).mean(0).tolist()
    return accuracy, loss


def _check_given(training: object) -> None:
    """Raises EngineError unless it is a run."""
    from worker.engine.training.loop import MAKERS, Training  # which imports this file

    checks.given(training, Training, "run", MAKERS)


@contextmanager
def _model(training: "Training", images: Images, device: str) -> Iterator[tuple[Network, torch.Tensor]]:
    """The finished run's network and θ_T on a device, within a context that repeats bit for bit."""
    _check_given(training)
    data.check(images, training.recipe, "given")
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
def predict(training: "Training", images: Images, *, progress: Progress | None = None, device: str = "auto") -> np.ndarray:
    """Probabilities of the finished run's model, (N, classes) float32."""
    with _model(training, images, device) as (network, params):
        return of_logits(network, training.recipe, params, images, lambda logits, _y: logits.softmax(1), progress).numpy()


@devices.ordinary_modes()
def evaluate(training: "Training", images: Images, *, device: str = "auto") -> tuple[float, float]:
    """(accuracy as a fraction, mean loss) of the finished run's model."""
    with _model(training, images, device) as (network, params):
        return evaluate_params(network, training.recipe, params, images)


@devices.ordinary_modes()
def features(training: "Training", images: Images, *, device: str = "auto") -> np.ndarray:
    """What the last linear layer sees, (N, D) float32."""
    with _model(training, images, device) as (network, params), torch.no_grad():
        parts = (network.features(params, x).flatten(1) for _, x, _ in walk(network, training.recipe, params, images))
        return _joined(parts, len(images)).numpy()


@devices.ordinary_modes()
def export_weights(training: "Training", folder: Path | str) -> str:
    """Write the finished run's model into a folder of weights, as safetensors; returns its SHA-256, for `Recipe.weights` or for other programs."""
    _check_given(training)
    if not training.params.numel():
        raise EngineError("This run keeps no parameters, so there is no model to export; `with_params(training, images)` has them back.")
    network, _ = build(training.recipe)
    check_same(network, training.recipe, training.params, training.record.answers)
    return keep_weights(named_tensors(network, training.params), folder)
