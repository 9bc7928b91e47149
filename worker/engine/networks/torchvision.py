"""torchvision's networks, adapted for exact influence.

From scratch: group normalisation, and a stem that shrinks small images less. From weights: as
published, with frozen batch statistics.
"""

import pickle  # for its error
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import worker.engine.networks.torchvision_ops  # noqa: F401 - see its docstring
from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.networks.paper_networks import group_norm
from worker.engine.networks.weights import keep_weights
from worker.engine.recipe import Recipe

# Largest side in pixels with the small stem.
SMALL = 64
# Sides in pixels of the vision transformer's patches and published images.
PATCH, PUBLISHED_SIDE = 16, 224


@cache
def _models() -> Any:
    """Import torchvision late, because it is slow."""
    from torchvision import models

    return models


class PhotographNetwork(nn.Module):
    """torchvision's network (`body`), for grey images too.

    Args:
        side: pixels to resize to; None for no resizing.
    """

    def __init__(self, body: nn.Module, side: int | None = None) -> None:
        super().__init__()
        self.body = body
        self.side = side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if self.side is not None and x.shape[2:] != (self.side, self.side):
            x = functional.interpolate(
                x, size=(self.side, self.side), mode="bilinear", align_corners=False
            )
        return self.body(x)


def weights_prefix(module: nn.Module) -> str:
    """Prefix of a module's tensors before torchvision's names."""
    return "body." if isinstance(module, PhotographNetwork) else ""


def _small(recipe: Recipe) -> bool:
    return not recipe.weights and max(recipe.height, recipe.width) <= SMALL


def _norm(recipe: Recipe) -> Any:
    return nn.BatchNorm2d if recipe.weights else group_norm


Make = Callable[..., nn.Module]


def _resnet(make: Make, recipe: Recipe) -> nn.Module:
    body: Any = make(weights=None, num_classes=recipe.classes, norm_layer=_norm(recipe))
    if _small(recipe):
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        if max(recipe.height, recipe.width) <= SMALL // 2:
            body.maxpool = nn.Identity()
    return PhotographNetwork(body)


def _mobilenet(make: Make, recipe: Recipe) -> nn.Module:
    body: Any = make(weights=None, num_classes=recipe.classes, norm_layer=_norm(recipe))
    if _small(recipe):
        body.features[0][0].stride = (1, 1)
    return PhotographNetwork(body)


def _convnext(make: Make, recipe: Recipe) -> nn.Module:
    body: Any = make(weights=None, num_classes=recipe.classes)
    if _small(recipe):
        body.features[0][0].stride = (2, 2)
    return PhotographNetwork(body)


def _vit(make: Make, recipe: Recipe) -> nn.Module:
    side = (
        PUBLISHED_SIDE if recipe.weights else -(-max(recipe.height, recipe.width) // PATCH) * PATCH
    )
    return PhotographNetwork(make(weights=None, num_classes=recipe.classes, image_size=side), side)


FAMILIES: dict[str, Callable[[Make, Recipe], nn.Module]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "convnext": _convnext,
    "vit": _vit,
}


def builder(facts: catalogue.Network) -> Callable[[Recipe], nn.Module]:
    family = FAMILIES[facts.family]
    return lambda recipe: family(getattr(_models(), facts.body), recipe)


# Weights trained on ImageNet.
PUBLISHED = {name: facts.published for name, facts in catalogue.NETWORKS.items() if facts.published}


def download_weights(network: str, folder: Path, *, url: str | None = None) -> str:
    """Download torchvision's published weights into a folder.

    Args:
        folder: of weights.
        url: mirror of the file, ending in -HASH.pth.

    Returns:
        The file's SHA-256, for `Recipe.weights`.

    Raises:
        EngineError: no such weights, or a failed download.
    """
    if network not in PUBLISHED:
        raise EngineError(
            f"Weights are published for {', '.join(PUBLISHED)}; there are none for {network!r}."
        )
    source = url or _models().get_weight(PUBLISHED[network]).url
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "downloaded.pth"
        try:
            torch.hub.download_url_to_file(source, str(file), _hash_start(source), progress=False)
            # Safe to read: tensors only, and the hash was checked.
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise EngineError(
                f"The weights of {network} could not be downloaded from {source} ({error}). "
                "Download them on a machine with a network, or give a safetensors file."
            ) from error
    return keep_weights(tensors, folder)


def _hash_start(url: str) -> str:
    """HASH of NAME-HASH.pth, the start of the SHA-256."""
    return url.rpartition("-")[2].removesuffix(".pth")
