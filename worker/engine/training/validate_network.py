"""Validate user-supplied networks on a few random images."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.engine.derivatives.passes import fused_pass, mean_gradient_of
from worker.engine.errors import EngineError
from worker.engine.networks.flat_network import Network
from worker.engine.recipe import Recipe
from worker.engine.training.checks import describe_error

TRIAL_COUNT = 4
# Relative, between an image's logits in different batches.
TOLERANCE = 1e-3
# Derivatives are sums over all parameters.
DERIVATIVE_TOLERANCE = 1e-2
RECORDED_LOGITS = 8


def validate_network(network: Network, recipe: Recipe, params: torch.Tensor) -> None:
    """Check that a network can be retraced.

    Args:
        params: θ_0, (P,).

    Raises:
        EngineError: it is not a function of an image and θ alone, or has no second derivative.
    """
    x = _trial_images(recipe, params)
    y = (torch.arange(TRIAL_COUNT) % recipe.classes).to(params.device)
    _check_logits(network, recipe.network, params, x)
    with _explain_errors(
        f"The network {recipe.network} cannot be differentiated twice",
        "replace the operation that torch names",
    ):
        _check_connected(network, recipe.network, params, x)
        direction = torch.ones_like(params)
        inner, *_ = fused_pass(network, params, direction, x, y)
        alone = torch.stack(
            [
                mean_gradient_of(network, params, x[i : i + 1], y[i : i + 1]) @ direction
                for i in range(TRIAL_COUNT)
            ]
        )
    if float((inner - alone).abs().max()) > DERIVATIVE_TOLERANCE * max(
        1.0, float(inner.abs().max())
    ):
        raise EngineError(
            "torch computes another derivative for an image alone than in a batch with the "
            f"network {recipe.network}: is a part of it within no_grad()? Freeze that with "
            "requires_grad_(False) instead. Otherwise use GroupNorm or LayerNorm in place of its "
            "normalisation."
        )
    with _explain_errors(
        f"The network {recipe.network} does not run in float64, in which its derivatives are "
        "checked",
        "let it take its type from its parameters: no float(), half() or to(torch.float32) in its "
        "forward pass, and constants as buffers",
    ):
        error = _curvature_error(network, params, x, y)
    if error > DERIVATIVE_TOLERANCE:
        raise EngineError(
            f"torch computes a wrong second derivative of the network {recipe.network}: is a part "
            "of it cut off by detach()? Freeze that with requires_grad_(False) instead. Otherwise "
            "replace what is not an ordinary layer by plain operations."
        )


def trial_logits(network: Network, recipe: Recipe, params: torch.Tensor) -> list[list[float]]:
    """Compute the first logits of each trial image.

    Args:
        params: θ, (P,).
    """
    with torch.no_grad():
        return (
            network.logits(params, _trial_images(recipe, params))[:, :RECORDED_LOGITS]
            .double()
            .tolist()
        )


def check_same(
    network: Network, recipe: Recipe, params: torch.Tensor, recorded: list[list[float]]
) -> None:
    """Raise EngineError unless a network is the run's.

    Args:
        params: θ_T, (P,).
    """
    if params.numel() != network.size:
        raise EngineError(
            f"The network {recipe.network} has {network.size:,} parameters to train, and that of "
            f"this run had {params.numel():,}; register the network that the run was trained with, "
            "or train again in another folder."
        )
    if not recorded:
        return
    now, then = torch.tensor(trial_logits(network, recipe, params)), torch.tensor(recorded)
    near = TOLERANCE * max(1.0, float(then.nan_to_num().abs().max()))
    if now.shape != then.shape or not torch.allclose(now, then, rtol=0, atol=near, equal_nan=True):
        raise EngineError(
            f"The network {recipe.network} is not the one that this run was trained with: with the "
            "same parameters it answers differently. Register the original, or train again in "
            "another folder."
        )


def _trial_images(recipe: Recipe, params: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        TRIAL_COUNT, recipe.channels, recipe.height, recipe.width, generator=generator
    ).to(params)


def _check_logits(network: Network, name: str, params: torch.Tensor, x: torch.Tensor) -> None:
    """Check that an image's logits repeat, in any batch."""
    with (
        torch.no_grad(),
        _explain_errors(
            f"The network {name} cannot take {TRIAL_COUNT} images, or one",
            "let it take any number of them",
        ),
    ):
        logits, again = network.logits(params, x), network.logits(params, x)
        alone = [network.logits(params, x[i : i + 1]) for i in range(TRIAL_COUNT)]
    if not bool(torch.isfinite(logits).all()):
        raise EngineError(
            f"The network {name} answers random images with values that are not numbers; look for "
            "logarithms, roots and divisions in it."
        )
    if not torch.equal(logits, again):
        raise EngineError(
            f"The network {name} answers the same images differently the second time, so no step "
            "of a training could be repeated: it draws random numbers, or changes the images in "
            "place. Use torch's Dropout modules, which are switched off here, and no mul_() or "
            "add_() on its input."
        )
    if any(single.shape != logits[:1].shape for single in alone):
        raise EngineError(
            f"The network {name} answers a single image with numbers of shape "
            f"{tuple(alone[0].shape)}, not {tuple(logits[:1].shape)}; let it keep the first axis, "
            "that of the images: flatten(1), and no squeeze() without an axis."
        )
    if float((logits - torch.cat(alone)).abs().max()) > TOLERANCE * max(
        1.0, float(logits.abs().max())
    ):
        raise EngineError(
            f"The network {name} mixes the images of a batch, so the influence of one image is not "
            "defined; use a normalisation within each image (GroupNorm, LayerNorm), or batch "
            "normalisation in evaluation mode."
        )


def _check_connected(network: Network, name: str, params: torch.Tensor, x: torch.Tensor) -> None:
    if not network.logits(params.detach().requires_grad_(), x).requires_grad:
        raise EngineError(
            f"The logits of the network {name} are cut off from its parameters, so it cannot "
            "learn; look for detach() and no_grad() in its forward pass."
        )


@contextmanager
def _explain_errors(problem: str, fix: str) -> Iterator[None]:
    """Turn any exception into an EngineError with a fix."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise EngineError(f"{problem} ({describe_error(error)}); {fix}.") from error


def _curvature_error(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> float:
    """Compute the relative error of H v against a difference of gradients.

    The least of several step sizes, since a kink may lie within a step.
    """
    wide, theta, images = network.to_float64(), params.double(), x.double()
    v = (
        torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).to(theta)
        / theta.numel() ** 0.5
    )
    # Behind a last layer of zeros every derivative is 0.
    theta = theta + 0.01 * v.flip(0) * theta.numel() ** 0.5
    exact = fused_pass(wide, theta, v, images, y).hessian_product
    errors = []
    for epsilon in (1e-4, 1e-6, 1e-8):
        after, before = (
            mean_gradient_of(wide, theta + sign * epsilon * v, images, y) for sign in (1, -1)
        )
        difference = (after - before) / (2 * epsilon)
        errors.append(float((exact - difference).norm()) / max(float(difference.norm()), 1e-6))
    return min(errors)
