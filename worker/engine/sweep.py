"""Apply a network to all images, in parts."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from worker.engine.images import Images, Integers, augmented_batch, chunks, unaugmented_batch
from worker.engine.networks.registry import Network
from worker.engine.prefetch import Prefetcher
from worker.engine.recipe import Recipe

Floats = npt.NDArray[np.float64]
# progress(done, total); may raise to stop.
Progress = Callable[[int, int], None]


def iterate_parts(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    kind: str = "logits",
    *,
    epoch: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Integers, torch.Tensor, torch.Tensor]]:
    """Iterate over all images in parts that fit a pass.

    Args:
        params: θ, (P,); parts get its type and device.
        kind: of pass, see `Network.images_per_pass`.
        epoch: of the augmentation, if any.
        progress: called after each part.

    Yields:
        Positions (B,), x (B, C, H, W) and y (B,).
    """
    parts = list(chunks(len(images), network.images_per_pass(recipe.shape, kind)))

    def make(t: int) -> tuple[torch.Tensor, torch.Tensor]:
        if epoch is None:
            return unaugmented_batch(recipe, images, parts[t], params.dtype, params.device)
        return augmented_batch(recipe, images, parts[t], epoch, params.dtype, params.device)

    with Prefetcher(make, len(parts)) as batch:
        for t, positions in enumerate(parts):
            yield positions, *batch(t)
            if progress is not None:
                progress(int(positions[-1]) + 1, len(images))


def map_logits(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    progress: Progress | None = None,
) -> torch.Tensor:
    """Apply a function to the logits of all images.

    Args:
        params: θ, (P,).
        compute: from logits (B, classes) and y (B,) to rows (B, …).

    Returns:
        (N, …) on the CPU.
    """

    def parts() -> Iterator[torch.Tensor]:
        for _, x, y in iterate_parts(network, recipe, params, images, progress=progress):
            yield compute(network.logits(params, x), y)

    with torch.no_grad():
        return concatenate_parts(parts(), len(images))


def concatenate_parts(parts: Iterator[torch.Tensor], count: int) -> torch.Tensor:
    """Concatenate parts into (count, …) on the CPU."""
    # Allocated at once, or the heap fragments.
    result = torch.empty(0)
    done = 0
    for part in parts:
        if not done:
            result = torch.empty(count, *part.shape[1:], dtype=part.dtype)
        result[done : done + len(part)] = part
        done += len(part)
    return result


def compute_losses(
    network: Network,
    recipe: Recipe,
    params: torch.Tensor,
    images: Images,
    progress: Progress | None = None,
) -> Floats:
    """Compute ℓ(z_i; θ) of all images, (N,) float64."""

    def losses(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits.double(), y, reduction="none")

    return map_logits(network, recipe, params, images, losses, progress).numpy()


def evaluate_params(
    network: Network, recipe: Recipe, params: torch.Tensor, images: Images
) -> tuple[float, float]:
    """Compute accuracy (a fraction) and mean loss at θ (P,)."""

    def correct_and_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [
                (logits.argmax(1) == y).double(),
                functional.cross_entropy(logits.double(), y, reduction="none"),
            ],
            1,
        )

    accuracy, loss = map_logits(network, recipe, params, images, correct_and_loss).mean(0).tolist()
    return accuracy, loss
