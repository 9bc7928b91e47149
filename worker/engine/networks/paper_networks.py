"""The first paper's networks, with group normalisation."""

import math

import torch
from torch import nn

from worker.engine.recipe import Recipe

GROUPS = 8


def group_norm(channels: int) -> nn.GroupNorm:
    """Make group normalisation with at most eight groups."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _pooled() -> list[nn.Module]:
    """Pool before ReLU: the same function for a quarter of the work."""
    return [nn.MaxPool2d(2), nn.ReLU()]


class MnistNet(nn.Module):
    """Two 5×5 convolutions of 20 channels, and a linear layer."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(recipe.channels, 20, 5),
            *_pooled(),
            nn.Conv2d(20, 20, 5),
            *_pooled(),
            nn.Flatten(),
        )
        height, width = (((side - 4) // 2 - 4) // 2 for side in (recipe.height, recipe.width))
        self.head = nn.Linear(20 * height * width, recipe.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class CifarNet(nn.Module):
    """Three blocks of two 3×3 convolutions, and a linear layer.

    Source: supplement of Hara et al. 2019.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = recipe.channels
        for width in (32, 64, 128):
            layers += [nn.Conv2d(previous, width, 3, padding=1), group_norm(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), *_pooled()]
            previous = width
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(128 * (recipe.height // 8) * (recipe.width // 8), recipe.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


BUILDERS = {"mnist": MnistNet, "cifar": CifarNet}
