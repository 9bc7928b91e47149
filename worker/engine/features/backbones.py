"""Backbones: frozen networks with pinned weights, ready for inference."""

import copy
import hashlib
import io
import pickle  # for its error
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

import worker.engine.networks.torchvision_ops  # noqa: F401 - before timm, which loads torchvision
from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.networks.weights import Tensors, read_weights

# Largest difference of the folded network, relative to the largest feature.
FOLDED_ERROR = 1e-3
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A frozen network from pixels to features.

    network: from x (B, 3, side, side) to features (B, D); channels last, batch norm folded.
    side: pixels a side. features: D. mean, std: of pixels, see `catalogue.Backbone`.
    digest: names the features.
    """

    name: str
    network: nn.Module
    side: int
    features: int
    mean: Triple
    std: Triple
    digest: str


def load_backbone(name: str = catalogue.DEFAULT_BACKBONE, *, fold: bool = True) -> Backbone:
    """Load a backbone by name.

    Args:
        name: of the catalogue, or MODEL@SHA-256: timm's name of a model, and the SHA-256 of its
            safetensors file, which is registered or in a folder of weights.
        fold: False keeps batch norm and timm's order of channels, for comparison.

    Raises:
        EngineError: unknown name; missing, damaged or foreign weights.
    """
    model, _, sha256 = name.partition("@")
    facts = catalogue.BACKBONES.get(name)
    if facts is not None:
        network = _make(facts.model)
        _load_in_order(network, _read_packaged(facts), facts.called)
        network.reset_classifier(0)
        side, mean, std, digest = facts.side, facts.mean, facts.std, facts.digest
    elif sha256:
        network = _make(model, num_classes=0)
        _load_by_name(network, read_weights(sha256), model)
        side, mean, std = _preprocessing(network)
        digest = catalogue.digest_of_backbone(model, sha256, side, mean, std)
    else:
        raise EngineError(
            f"There is no backbone called {name!r}; choose from {', '.join(catalogue.BACKBONES)}, "
            "or name a timm model and its weights as MODEL@SHA-256."
        )
    width = int(network.num_features)
    ready = _prepare(network, side) if fold else network
    return Backbone(name, ready, side, width, mean, std, digest)


@cache
def _timm() -> Any:
    """Import timm late, because it is slow; it needs no network."""
    try:
        import timm
    except ImportError as error:
        raise EngineError(
            "Backbones need the package timm; install Winnow with its extra “worker”."
        ) from error
    return timm


def _make(model: str, **options: Any) -> Any:
    try:
        network = _timm().create_model(model, pretrained=False, **options)
    except RuntimeError as error:
        raise EngineError(f"timm knows no model called {model!r}; check its name.") from error
    return network.eval().requires_grad_(False)


def _read_packaged(facts: catalogue.Backbone) -> list[torch.Tensor]:
    try:
        content = resources.files(facts.package).joinpath(facts.file).read_bytes()
    except (ImportError, OSError) as error:
        raise EngineError(
            f"The weights of {facts.called} are missing; install the package "
            f"{facts.package.replace('_', '-')} again."
        ) from error
    if hashlib.sha256(content).hexdigest() != facts.sha256:
        raise EngineError(
            f"The weights of {facts.called} are damaged or another file's; install the package "
            f"{facts.package.replace('_', '-')} again."
        )
    return list(_parse(content, facts.called).values())


def _parse(content: bytes, called: str) -> Tensors:
    try:
        # Safe to read: tensors only, and the hash was checked.
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise EngineError(f"The weights of {called} cannot be read: {error}") from error
    return dict(tensors)


def _load_in_order(network: nn.Module, tensors: list[torch.Tensor], called: str) -> None:
    """Load tensors whose names differ from timm's, but whose order is the same."""
    own = network.state_dict()
    shapes = [value.shape for value in own.values()]
    if [value.shape for value in tensors] != shapes:
        raise EngineError(
            f"The weights of {called} do not fit its network: they are another network's, or this "
            "version of timm builds another one. Install the versions in constraints.txt."
        )
    network.load_state_dict(dict(zip(own, tensors, strict=True)))


def _load_by_name(network: nn.Module, tensors: Tensors, model: str) -> None:
    """Load a file in timm's names; the classifier is left out."""
    own = network.state_dict()
    fitting = {
        name: value
        for name, value in tensors.items()
        if name in own and own[name].shape == value.shape
    }
    missing = [name for name in own if name not in fitting]
    if missing:
        raise EngineError(
            f"The weights do not fit {model}: {missing[0]} is missing or has another shape. Choose "
            "the model that they were made for."
        )
    network.load_state_dict(fitting)


def _preprocessing(network: Any) -> tuple[int, Triple, Triple]:
    """Return side, mean and std, for pixels of 0 to 255, as timm knows them."""
    facts = network.pretrained_cfg
    red, green, blue = (round(255 * value, 4) for value in facts["mean"])
    mean = (red, green, blue)
    red, green, blue = (round(255 * value, 4) for value in facts["std"])
    return int(facts["input_size"][1]), mean, (red, green, blue)


def _prepare(network: nn.Module, side: int) -> nn.Module:
    """Fold batch norm where that changes nothing, and order channels last."""
    folded = fold_batch_norm(network)
    x = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
    with torch.inference_mode():
        true, quick = network(x), folded(x)
    # Modules may be declared in another order than they are called.
    same = (true - quick).abs().max() <= FOLDED_ERROR * true.abs().max()
    # Torch's types lack this argument.
    return (folded if same else network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy whose convolutions contain the batch norm that follows.

    w ← w γ/√(var + ε)        b ← β + (b − mean) γ/√(var + ε)
    """
    folded = copy.deepcopy(network)
    for parent, name, conv, norm in list(_pairs(folded)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        # timm's batch norm contains the activation.
        after = [child for child in norm.children() if not isinstance(child, nn.Identity)]
        setattr(parent, name, nn.Sequential(*after))
    return folded.requires_grad_(False)


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d, nn.BatchNorm2d]]:
    """Find each convolution that is declared before a batch norm: (parent, name, both)."""
    for parent in network.modules():
        before: nn.Module | None = None
        for name, child in parent.named_children():
            if isinstance(before, nn.Conv2d) and isinstance(child, nn.BatchNorm2d):
                yield parent, name, before, child
            before = child
