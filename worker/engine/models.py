"""Networks, and parameters as one flat vector.

`mnist` and `cifar` are the first paper's networks (supplement of Hara et al. 2019), `resnet18` is torchvision's, adapted to small images. Batch
normalisation is replaced by group normalisation everywhere: with batch statistics the gradient of one image is not defined (influence.md,
section 7). Networks return logits; none draws random numbers in its forward pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

import worker.engine.torchvision_ops  # noqa: F401 - makes the next import work beside a CPU-only torch

from torchvision.models import resnet18  # isort: skip

from worker.engine.errors import EngineError
from worker.engine.recipe import Recipe

GROUPS = 8


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with eight groups, fewer where the channels do not divide."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class MnistNet(nn.Module):
    """Two 5×5 convolutions of 20 channels, each with ReLU and pooling, and one linear layer."""

    smallest = 16

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(recipe.channels, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        height, width = (((side - 4) // 2 - 4) // 2 for side in (recipe.height, recipe.width))
        self.head = nn.Linear(20 * height * width, recipe.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class CifarNet(nn.Module):
    """Three blocks of two 3×3 convolutions (32, 64, 128 channels), the first of each normalised, and one linear layer."""

    smallest = 8

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = recipe.channels
        for width in (32, 64, 128):
            layers += [nn.Conv2d(before, width, 3, padding=1), group_norm(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(128 * (recipe.height // 8) * (recipe.width // 8), recipe.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with group normalisation; images of up to 64 pixels get a 3×3 stem without pooling, as is usual for CIFAR."""

    smallest = 16

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        body = resnet18(weights=None, num_classes=recipe.classes, norm_layer=group_norm)
        small = max(recipe.height, recipe.width) <= 64
        body.conv1 = nn.Conv2d(recipe.channels, 64, 3 if small else 7, stride=1 if small else 2, padding=1 if small else 3, bias=False)
        if max(recipe.height, recipe.width) <= 32:
            body.maxpool = nn.Identity()
        self.head = body.fc
        body.fc = nn.Identity()
        for module in body.modules():
            if isinstance(module, nn.ReLU):
                # In-place activations overwrite what forward-mode differentiation still needs.
                module.inplace = False
        self.features = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


@dataclass(frozen=True)
class NetworkChoice:
    """A network by name: how to build it, what to tell a person, and the smallest side it takes."""

    build: Callable[[Recipe], nn.Module]
    meaning: str
    smallest: int


NETWORKS: dict[str, NetworkChoice] = {
    "mnist": NetworkChoice(MnistNet, "Small and fast; for digits, letters and other simple grey images.", MnistNet.smallest),
    "cifar": NetworkChoice(CifarNet, "Middle-sized; for small colour images.", CifarNet.smallest),
    "resnet18": NetworkChoice(ResNet18, "Large and slow without a GPU; for photographs.", ResNet18.smallest),
}


class Network:
    """A network whose parameters are one flat vector (P,), so that the retracing reads like the paper.

    Calling `logits(params, x)` is a pure function; the module inside only lends its structure and is never changed.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [p.shape for p in module.parameters()]
        self.sizes = [p.numel() for p in module.parameters()]
        if not self.names:
            raise EngineError("The network has no parameters to train.")
        self.buffers = dict(module.named_buffers())

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    def split(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The flat vector (P,) as named views."""
        pieces = torch.split(params, self.sizes)
        return {name: piece.view(shape) for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)}

    def logits(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """f(x; θ), (B, classes)."""
        # Buffers are cloned: whatever a module does to them stays inside this call.
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return torch.func.functional_call(self.module, (self.split(params), buffers), (x,))

    def losses(self, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """ℓ(z_i; θ) of every image of a batch, (B,)."""
        return functional.cross_entropy(self.logits(params, x), y, reduction="none")

    def features(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What the last layer sees, (B, D)."""
        seen: list[torch.Tensor] = []
        head: nn.Module = self.module.get_submodule("head")
        hook = head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
        try:
            self.logits(params, x)
        finally:
            hook.remove()
        return seen[0]


def build(recipe: Recipe, dtype: torch.dtype = torch.float32) -> tuple[Network, torch.Tensor]:
    """The network of a recipe and its initial parameters θ_0 (P,), drawn from the recipe's seed alone."""
    choice = NETWORKS.get(recipe.network)
    if choice is None:
        raise EngineError(f"There is no network called {recipe.network!r}; there are {', '.join(NETWORKS)}.")
    if min(recipe.height, recipe.width) < choice.smallest:
        raise EngineError(
            f"The network {recipe.network} needs images of at least {choice.smallest} pixels a side; "
            f"these have {min(recipe.height, recipe.width)}."
        )
    # torch's initialisers draw from the global generator: lend it, and put it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(choice.build(recipe).to(dtype))
    params = torch.cat([p.detach().reshape(-1) for p in network.module.parameters()])
    return network, params
