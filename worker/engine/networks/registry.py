"""Networks by name: the paper's, torchvision's and the user's.

None uses a batch's statistics (docs/method.md, section 7) or draws random numbers.
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
from worker.engine.networks import linear_head, paper_networks, torchvision
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
    """Builder and facts of a named network."""

    build: Callable[[Recipe], nn.Module]
    meaning: str
    smallest: int = 1
    own: bool = False


_BUILDERS = {**paper_networks.BUILDERS, "linear_head": linear_head.build}

NETWORKS: dict[str, NetworkChoice] = {
    name: NetworkChoice(
        _BUILDERS.get(name) or torchvision.builder(facts),
        facts.meaning,
        facts.smallest,
    )
    for name, facts in catalogue.NETWORKS.items()
}


def register_network(
    name: str,
    source: nn.Module | Callable[[Recipe], nn.Module],
    meaning: str = "User's own network.",
) -> None:
    """Make a user's network available as `Recipe.network`.

    Args:
        name: new, or registered earlier, to replace that network.
        source: module from (B, C, H, W) to logits (B, classes), copied, whose parameters are θ_0;
            or a function from a recipe to one, called with the recipe's seed. Frozen parameters
            (`requires_grad=False`) and batch statistics stay fixed.
        meaning: for users.

    Raises:
        EngineError: the name is Winnow's own, or the source is neither.
    """
    if not (isinstance(name, str) and name):
        raise EngineError(f"A network is registered under a word, not {name!r}.")
    if isinstance(source, torch.jit.ScriptModule):
        raise EngineError(
            f"The network {name!r} is compiled by TorchScript, which cannot be differentiated "
            "twice; give the module it was made from."
        )
    if not callable(source):
        raise EngineError(
            f"The network {name!r} is a {type(source).__name__}; give a torch module, or a "
            "function from the recipe to one."
        )
    if name in NETWORKS and not NETWORKS[name].own:
        raise EngineError(f"There is a network called {name!r} already; choose another name.")
    NETWORKS[name] = NetworkChoice(
        _copy_builder(source) if isinstance(source, nn.Module) else source, meaning, own=True
    )


def _copy_builder(module: nn.Module) -> Callable[[Recipe], nn.Module]:
    try:
        kept = copy.deepcopy(module)
    except Exception as error:  # a user's code may raise anything
        raise EngineError(
            f"The network cannot be copied ({type(error).__name__}: {error}); give a function that "
            "makes it."
        ) from error
    return lambda _recipe: kept


def import_network(path: str) -> None:
    """Register the function at "package.module:function" under that name.

    Importing runs code: never pass a visitor's path.

    Raises:
        EngineError: no such function.
    """
    module, _, function = path.partition(":")
    try:
        source = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(
            f"The network {path!r} cannot be imported ({error}); write it as "
            "package.module:function."
        ) from error
    if not callable(source):
        raise EngineError(
            f"The network {path!r} is not a function; it must take a recipe and return a torch "
            "module."
        )
    register_network(path, source)


def build(
    recipe: Recipe, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Network, torch.Tensor]:
    """Build a recipe's network from its seed and weights.

    Returns:
        The network and θ_0, (P,).

    Raises:
        EngineError: unknown or unusable network, too small images, or unsuitable weights.
    """
    choice = _find_choice(recipe)
    # On the CPU, for the same start on any device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = _build_own(choice, recipe) if choice.own else choice.build(recipe)
    if recipe.weights:
        prefix = torchvision.weights_prefix(module)
        load_weights(
            module,
            {prefix + name: value for name, value in read_weights(recipe.weights).items()},
            last_linear(module),
        )
    module = module.to(device=device, dtype=dtype)
    network = (
        linear_head.LinearHead(module)
        if recipe.network == "linear_head"
        else Network(module, recipe.trained)
    )
    return network, network.initial


def _build_own(choice: NetworkChoice, recipe: Recipe) -> nn.Module:
    try:
        module = copy.deepcopy(choice.build(recipe))
    except EngineError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise EngineError(
            f"The network {recipe.network} could not be built: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise EngineError(
            f"The function of the network {recipe.network} returned a {type(module).__name__}; it "
            "must return a torch module (is a return missing?)."
        )
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise EngineError(
            f"The network {recipe.network} has lazy layers, whose sizes are unknown before they "
            "see an image; give their sizes, or let the module see an image before it is "
            "registered."
        )
    if any(tensor.is_complex() for tensor in (*module.parameters(), *module.buffers())):
        raise EngineError(
            f"The network {recipe.network} has complex numbers; keep their real and imaginary "
            "parts as real numbers."
        )
    return module


def named_tensors(network: Network, params: torch.Tensor) -> dict[str, torch.Tensor]:
    """Name a network's tensors at θ (P,) as in a file of weights."""
    prefix = torchvision.weights_prefix(network.module)
    trained = network.split(params)
    # Files have shared parameters under each name.
    tensors = network.module.state_dict() | {
        name: trained[main_name]
        for name, main_name in network.aliases.items()
        if main_name in trained
    }
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _find_choice(recipe: Recipe) -> NetworkChoice:
    choice = NETWORKS.get(recipe.network)
    if choice is None:
        raise EngineError(
            f"There is no network called {recipe.network!r}; choose from {', '.join(NETWORKS)}."
        )
    if bool(recipe.backbone) != (recipe.network == "linear_head"):
        raise EngineError(
            "The network linear_head and a backbone go together: give both, or neither."
        )
    side = min(recipe.height, recipe.width)
    if side < choice.smallest:
        raise EngineError(
            f"The network {recipe.network} needs images of at least {choice.smallest} pixels a "
            f"side; these have {side}."
        )
    if recipe.trained == "head" and not recipe.weights and not choice.own:
        raise EngineError(
            "Training the last layer alone needs a network that has learned something: give "
            f"weights for {recipe.network}, or train all of it."
        )
    return choice
