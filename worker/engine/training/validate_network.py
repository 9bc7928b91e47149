"""Whether a network that somebody brought can be retraced, and is the one that a run was trained with: found out on a few random images."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.engine.derivatives.passes import fused_pass, mean_gradient_of
from worker.engine.errors import EngineError
from worker.engine.networks.flat_network import Network
from worker.engine.recipe import Recipe
from worker.engine.training.checks import in_words

# How many images are tried, and by how much the same image's logits may differ in different company (rounding, relative to the largest).
COUNT = 4
TOLERANCE = 1e-3
# By how much its derivative may: it is a sum over all parameters.
LOOSE = 1e-2
# Of how many classes a run records what its network answers.
ANSWERED = 8


def examine(network: Network, recipe: Recipe, params: torch.Tensor) -> None:
    """Raise EngineError with a sentence for a network that is no function of one image and θ alone, or has no second derivative."""
    x = _trial_images(recipe, params)
    y = (torch.arange(COUNT) % recipe.classes).to(params.device)
    _examine_logits(network, recipe.network, params, x)
    with _or_sentence(
        f"The network {recipe.network} cannot be differentiated twice",
        "replace the operation that torch names",
    ):
        _examine_ties(network, recipe.network, params, x)
        direction = torch.ones_like(params)
        inner, _ = fused_pass(network, params, direction, x, y)
        alone = torch.stack(
            [
                mean_gradient_of(network, params, x[i : i + 1], y[i : i + 1]) @ direction
                for i in range(COUNT)
            ]
        )
    if float((inner - alone).abs().max()) > LOOSE * max(1.0, float(inner.abs().max())):
        raise EngineError(
            f"torch computes another derivative for an image alone than in a batch with the network {recipe.network}: is a part of it within "
            "no_grad()? Freeze that by requires_grad_(False) instead. Otherwise use GroupNorm or LayerNorm in place of its normalisation."
        )
    with _or_sentence(
        f"The network {recipe.network} does not run in float64, in which its derivatives are checked",
        "let it take its type from its parameters: no float(), half() or to(torch.float32) in its forward pass, and constants as buffers",
    ):
        error = _curvature_error(network, params, x, y)
    if error > LOOSE:
        raise EngineError(
            f"torch computes a wrong second derivative of the network {recipe.network}: is a part of it cut off by detach()? Freeze that by "
            "requires_grad_(False) instead. Otherwise replace what is not an ordinary layer by plain operations."
        )


def answers(network: Network, recipe: Recipe, params: torch.Tensor) -> list[list[float]]:
    """What a network at θ (P,) answers to the trial images: the first logits of each."""
    with torch.no_grad():
        return network.logits(params, _trial_images(recipe, params))[:, :ANSWERED].double().tolist()


def check_same(
    network: Network, recipe: Recipe, params: torch.Tensor, answered: list[list[float]]
) -> None:
    """Raises EngineError where a network is not the one that a run was trained with.

    params: the run's θ_T (P,). answered: the network's answers then; none to compare its size alone.
    """
    if params.numel() != network.size:
        raise EngineError(
            f"The network {recipe.network} has {network.size:,} parameters to train, and that of this run had {params.numel():,}; "
            "register the network that the run was trained with, or train again in another folder."
        )
    if not answered:
        return
    now, then = torch.tensor(answers(network, recipe, params)), torch.tensor(answered)
    near = TOLERANCE * max(1.0, float(then.nan_to_num().abs().max()))
    if now.shape != then.shape or not torch.allclose(now, then, rtol=0, atol=near, equal_nan=True):
        raise EngineError(
            f"The network {recipe.network} is not the one that this run was trained with: with the same parameters it answers otherwise. "
            "Register that one, or train again in another folder."
        )


def _trial_images(recipe: Recipe, params: torch.Tensor) -> torch.Tensor:
    """Random images, the same each time, (COUNT, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, recipe.channels, recipe.height, recipe.width, generator=generator).to(
        params
    )


def _examine_logits(network: Network, name: str, params: torch.Tensor, x: torch.Tensor) -> None:
    """Whether the logits of an image are the same each time, and in any company."""
    with (
        torch.no_grad(),
        _or_sentence(
            f"The network {name} cannot take {COUNT} images, or one",
            "let it take any number of them",
        ),
    ):
        logits, again = network.logits(params, x), network.logits(params, x)
        alone = [network.logits(params, x[i : i + 1]) for i in range(COUNT)]
    if not bool(torch.isfinite(logits).all()):
        raise EngineError(
            f"The network {name} answers random images with what is no number; look for logarithms, roots and divisions in it."
        )
    if not torch.equal(logits, again):
        raise EngineError(
            f"The network {name} answers the same images otherwise the second time, so no step of a training could be repeated: it draws random "
            "numbers, or changes the images in place. Use torch's Dropout modules, which are switched off here, and no mul_() or add_() on its input."
        )
    if any(one.shape != logits[:1].shape for one in alone):
        raise EngineError(
            f"The network {name} answers a single image with numbers of shape {tuple(alone[0].shape)}, not {tuple(logits[:1].shape)}; "
            "let it keep the first axis, that of the images: flatten(1), and no squeeze() without an axis."
        )
    if float((logits - torch.cat(alone)).abs().max()) > TOLERANCE * max(
        1.0, float(logits.abs().max())
    ):
        raise EngineError(
            f"The network {name} mixes the images of a batch, so the influence of one image is not defined; "
            "use a normalisation that looks at one image (GroupNorm, LayerNorm), or batch normalisation in evaluation mode."
        )


def _examine_ties(network: Network, name: str, params: torch.Tensor, x: torch.Tensor) -> None:
    """Whether torch knows that the logits come from the parameters."""
    if not network.logits(params.detach().requires_grad_(), x).requires_grad:
        raise EngineError(
            f"The logits of the network {name} are cut off from its parameters, so it cannot learn; "
            "look for detach() and no_grad() in its forward pass."
        )


@contextmanager
def _or_sentence(what: str, mend: str) -> Iterator[None]:
    """Whatever is raised within, as an EngineError: what happened, torch's own words, and how to mend it."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        raise EngineError(f"{what} ({in_words(error)}); {mend}.") from error


def _curvature_error(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> float:
    """How far H v is from a difference of gradients, relative to it, in float64: the least of several step sizes, as a kink may lie within one."""
    wide, theta, images = network.wide(), params.double(), x.double()
    v = (
        torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).to(theta)
        / theta.numel() ** 0.5
    )
    # A little off the start: where a last layer starts from zeros, nothing before it has a derivative to be wrong.
    theta = theta + 0.01 * v.flip(0) * theta.numel() ** 0.5
    _, exact = fused_pass(wide, theta, v, images, y)
    errors = []
    for epsilon in (1e-4, 1e-6, 1e-8):
        after, before = (
            mean_gradient_of(wide, theta + sign * epsilon * v, images, y) for sign in (1, -1)
        )
        difference = (after - before) / (2 * epsilon)
        errors.append(float((exact - difference).norm()) / max(float(difference.norm()), 1e-6))
    return min(errors)
