"""Apply a network to all images, part by part."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from worker.engine.images import Images, Integers, augmented_batch, chunks, unaugmented_batch
from worker.engine.networks.registry import Network
from worker.engine.prefetch import Ahead
from worker.engine.recipe import Recipe

Floats = npt.NDArray[np.float64]
# Progress through a long computation: steps done, steps in all. May raise to stop it.
Progress = Callable[[int, int], None]


def walk(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    kind: str = "logits",
    *,
    epoch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Integers, torch.Tensor, torch.Tensor]]:
    """All images in parts of one pass of this kind (see `Network.images_a_pass`): (positions (B,), x (B, C, H, W), y (B,)).

    epoch: as augmented in it; None for the images as they are. The next part is read while one is used.
    """
    parts = list(chunks(len(images), network.images_a_pass(recipe.shape, kind)))

    def make(t: int) -> tuple[torch.Tensor, torch.Tensor]:
        if epoch is None:
            return unaugmented_batch(recipe, images, parts[t], params.dtype, params.device)
        return augmented_batch(recipe, images, parts[t], epoch, params.dtype, params.device)

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


def losses_of(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    progress: Progress | None = None,
) -> Floats:
    """ℓ(z_i; θ) of all images, (N,)."""

    def losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits.double(), y, reduction="none")

    return of_logits(network, recipe, params, images, losses, progress).numpy()


def evaluate_params(
    network: Network, recipe: Recipe, params: torch.Tensor, images: Images
) -> tuple[float, float]:
    """(accuracy as a fraction, mean loss)."""

    def right_and_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [
                (logits.argmax(1) == y).double(),
                functional.cross_entropy(logits.double(), y, reduction="none"),
            ],
            1,
        )

    accuracy, loss = of_logits(network, recipe, params, images, right_and_loss).mean(0).tolist()
    return accuracy, loss
