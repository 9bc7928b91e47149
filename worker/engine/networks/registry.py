"""Networks by name: the papers' two, torchvision's, and one's own.

Batch normalisation in batch statistics is used nowhere: with it the gradient of one image is not defined (influence.md, section 7). Networks
trained from scratch have group normalisation, fine-tuned ones frozen batch statistics. Networks return logits; none draws random numbers.
"""

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from backend.core import catalogue
from worker.engine.errors import EngineError
from worker.engine.networks import paper_networks, torchvision
from worker.engine.networks.flat_network import Network, last_linear
from worker.engine.networks.weights import load_weights, read_weights
from worker.engine.recipe import Recipe

__all__ = [
    "NETWORKS",
    "Network",
    "NetworkChoice",
    "build",
    "import_network",
    "named_tensors",
    "register_network",
]


@dataclass(frozen=True)
class NetworkChoice:
    """A network by name: how to build it, what to tell a person, and the smallest side it takes. own: brought by the caller."""

    build: Callable[[Recipe], nn.Module]
    meaning: str
    smallest: int = 1
    own: bool = False


NETWORKS: dict[str, NetworkChoice] = {
    name: NetworkChoice(
        paper_networks.BUILDERS.get(name) or torchvision.builder(facts),
        facts.meaning,
        facts.smallest,
    )
    for name, facts in catalogue.NETWORKS.items()
}


def register_network(
    name: str,
    source: nn.Module | Callable[[Recipe], nn.Module],
    meaning: str = "One's own network.",
) -> None:
    """Make one's own network available as `Recipe.network = name`.

    source: a module that takes (B, C, H, W) and returns logits (B, classes), copied as it is now and never changed, its parameters being where
    every training starts; or a function from the recipe to such a module, called with torch's random numbers seeded by the recipe. Parameters with
    `requires_grad=False` stay as they are. Batch normalisation keeps the statistics that the module comes with. A name of one's own may be
    given anew. Raises EngineError for the name of a network that Winnow has, and for what is neither module nor function.
    """
    if not (isinstance(name, str) and name):
        raise EngineError(f"A network is registered under a word, not {name!r}.")
    if isinstance(source, torch.jit.ScriptModule):
        raise EngineError(
            f"The network {name!r} is compiled by TorchScript, which cannot be differentiated twice; give the module it was made of."
        )
    if not callable(source):
        raise EngineError(
            f"The network {name!r} is a {type(source).__name__}; give a torch module, or a function from the recipe to one."
        )
    if name in NETWORKS and not NETWORKS[name].own:
        raise EngineError(f"There is a network called {name!r} already; choose another name.")
    NETWORKS[name] = NetworkChoice(
        _always(source) if isinstance(source, nn.Module) else source, meaning, own=True
    )


def _always(module: nn.Module) -> Callable[[Recipe], nn.Module]:
    """The module as it is now, whatever becomes of it. Raises EngineError where it cannot be copied."""
    try:
        kept = copy.deepcopy(module)
    except Exception as error:  # somebody else's code may raise anything
        raise EngineError(
            f"The network cannot be copied ({type(error).__name__}: {error}); give a function that makes it."
        ) from error
    return lambda _recipe: kept


def import_network(path: str) -> None:
    """Register the function at "package.module:function" under that very name. Importing runs code: never with a path that a visitor typed.

    Raises EngineError where there is no such function.
    """
    module, _, function = path.partition(":")
    try:
        source = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(
            f"The network {path!r} cannot be imported ({error}); write it as package.module:function."
        ) from error
    if not callable(source):
        raise EngineError(
            f"The network {path!r} is no function; it must take a recipe and return a torch module."
        )
    register_network(path, source)


def build(
    recipe: Recipe, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Network, torch.Tensor]:
    """The network of a recipe and its initial parameters θ_0 (P,), from the recipe's seed and weights alone.

    Raises EngineError for a network that is not known or cannot be built, images too small for it, and weights that are not here or do not fit.
    """
    choice = _choice(recipe)
    # torch's initialisers draw from the global generator: lend it, and put it back as it was. On the CPU, for the same start on any device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = _own(choice, recipe) if choice.own else choice.build(recipe)
    if recipe.weights:
        prefix = torchvision.prefix(module)
        load_weights(
            module,
            {prefix + name: value for name, value in read_weights(recipe.weights).items()},
            last_linear(module),
        )
    network = Network(module.to(device=device, dtype=dtype), recipe.trained)
    return network, network.initial


def _own(choice: NetworkChoice, recipe: Recipe) -> nn.Module:
    """A copy of the module that somebody's function returns, which may keep it. Raises EngineError where it is none, or one without sizes."""
    try:
        module = copy.deepcopy(choice.build(recipe))
    except EngineError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise EngineError(
            f"The network {recipe.network} could not be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise EngineError(
            f"The function of the network {recipe.network} returned a {type(module).__name__}; it must return a torch module (is a return missing?)."
        )
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise EngineError(
            f"The network {recipe.network} has lazy layers, whose size is not known before they see an image; "
            "give their sizes, or let the module see an image before it is registered."
        )
    if any(tensor.is_complex() for tensor in (*module.parameters(), *module.buffers())):
        raise EngineError(
            f"The network {recipe.network} has complex numbers; keep their real and imaginary parts as real ones."
        )
    return module


def named_tensors(network: Network, params: torch.Tensor) -> dict[str, torch.Tensor]:
    """All tensors of a network with its trained parameters at θ (P,), under the names of a file of weights."""
    prefix = torchvision.prefix(network.module)
    trained = network.split(params)
    # A parameter that several layers share stands in the file under each of its names.
    tensors = network.module.state_dict() | {
        name: trained[first] for name, first in network.aliases.items() if first in trained
    }
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _choice(recipe: Recipe) -> NetworkChoice:
    choice = NETWORKS.get(recipe.network)
    if choice is None:
        raise EngineError(
            f"There is no network called {recipe.network!r}; there are {', '.join(NETWORKS)}."
        )
    side = min(recipe.height, recipe.width)
    if side < choice.smallest:
        raise EngineError(
            f"The network {recipe.network} needs images of at least {choice.smallest} pixels a side; these have {side}."
        )
    if recipe.trained == "head" and not recipe.weights and not choice.own:
        raise EngineError(
            f"Training the last layer alone needs a network that has learned something: give weights for {recipe.network}, or train all of it."
        )
    return choice
