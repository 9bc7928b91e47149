"""torchvision's networks, made fit for exact influence.

From scratch: batch normalisation becomes group normalisation, and images of up to 64 pixels get a stem that shrinks less, as is usual for
them. From weights: the network exactly as published, its batch statistics frozen. Grey images go in as three equal channels. Stochastic depth
and dropout are off: what a step computes must depend on the recipe alone.
"""

import pickle  # for the name of its error; nothing is unpickled here
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import worker.engine.networks.torchvision_ops  # noqa: F401 - lets torchvision be imported next to a CPU-only torch
from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.networks.paper_networks import group_norm
from worker.engine.networks.weights import keep_weights
from worker.engine.recipe import Recipe

# Images of up to this many pixels a side get the small stem.
SMALL = 64
# The vision transformer cuts images into patches of 16 pixels; its published weights know 14 × 14 of them.
PATCH, PUBLISHED_SIDE = 16, 224


@cache
def _models() -> Any:
    """torchvision's networks: imported when first used, as that takes as long as importing torch."""
    from torchvision import models

    return models


class Photograph(nn.Module):
    """A torchvision network for images of the recipe's kind. side: what images are resized to; None leaves them as they are."""

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


def prefix(module: nn.Module) -> str:
    """What stands before torchvision's names of a module's tensors."""
    return "body." if isinstance(module, Photograph) else ""


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
    return Photograph(body)


def _mobilenet(make: Make, recipe: Recipe) -> nn.Module:
    body: Any = make(weights=None, num_classes=recipe.classes, norm_layer=_norm(recipe))
    if _small(recipe):
        body.features[0][0].stride = (1, 1)
    return Photograph(body)


def _convnext(make: Make, recipe: Recipe) -> nn.Module:
    body: Any = make(weights=None, num_classes=recipe.classes)
    if _small(recipe):
        body.features[0][0].stride = (2, 2)
    return Photograph(body)


def _vit(make: Make, recipe: Recipe) -> nn.Module:
    side = (
        PUBLISHED_SIDE if recipe.weights else -(-max(recipe.height, recipe.width) // PATCH) * PATCH
    )
    return Photograph(make(weights=None, num_classes=recipe.classes, image_size=side), side)


FAMILIES: dict[str, Callable[[Make, Recipe], nn.Module]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "convnext": _convnext,
    "vit": _vit,
}


def builder(facts: catalogue.Network) -> Callable[[Recipe], nn.Module]:
    """The function from a recipe to a network of the catalogue."""
    family = FAMILIES[facts.family]
    return lambda recipe: family(getattr(_models(), facts.body), recipe)


# What torchvision publishes for each, all trained on ImageNet's 1,000 classes.
PUBLISHED = {name: facts.published for name, facts in catalogue.NETWORKS.items() if facts.published}


def download_weights(network: str, folder: Path, *, url: str | None = None) -> str:
    """Fetch torchvision's published weights of a network into a folder of weights; returns their SHA-256, for `Recipe.weights`.

    url: another place to fetch the same file from. Its name carries the start of its hash, which is checked. Raises EngineError where
    there are none, or no network to fetch them with.
    """
    if network not in PUBLISHED:
        raise EngineError(
            f"Weights are published for {', '.join(PUBLISHED)}; there are none for {network!r}."
        )
    source = url or _models().get_weight(PUBLISHED[network]).url
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "fetched.pth"
        try:
            torch.hub.download_url_to_file(source, str(file), _hash_start(source), progress=False)
            # torch's restricted reader: tensors and nothing else, from a file whose hash was checked.
            tensors = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise EngineError(
                f"The weights of {network} could not be fetched from {source} ({error}). Fetch them on a machine with a network, or give a "
                "safetensors file."
            ) from error
    return keep_weights(tensors, folder)


def _hash_start(url: str) -> str:
    """torchvision's files are called NAME-HASH.pth, HASH the first digits of their SHA-256."""
    return url.rpartition("-")[2].removesuffix(".pth")
