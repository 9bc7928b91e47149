"""Whether a network that somebody brought can be retraced: found out on a few random images, before any long work."""

import torch

from worker.engine.errors import EngineError
from worker.engine.network import Network
from worker.engine.recipe import Recipe
from worker.engine.retrace import fused_pass, mean_gradient_of

# How many images are tried, and by how much the same image's logits may differ in different company (rounding, relative to the largest).
COUNT = 4
TOLERANCE = 1e-3
# By how much its derivative may: it is a sum over all parameters.
LOOSE = 1e-2


def examine(network: Network, recipe: Recipe, params: torch.Tensor) -> None:
    """Raise EngineError with a sentence for a network that is no function of one image and θ alone, or has no second derivative."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, recipe.channels, recipe.height, recipe.width, generator=generator).to(params)
    y = (torch.arange(COUNT) % recipe.classes).to(params.device)
    with torch.no_grad():
        logits = network.logits(params, x)
        if not torch.equal(logits, network.logits(params, x)):
            raise EngineError(
                f"The network {recipe.network} draws random numbers in its forward pass, so no step of a training could be repeated; "
                "use torch's Dropout modules, which are switched off here, or none."
            )
        alone = torch.cat([network.logits(params, x[i : i + 1]) for i in range(COUNT)])
    if float((logits - alone).abs().max()) > TOLERANCE * max(1.0, float(logits.abs().max())):
        raise EngineError(
            f"The network {recipe.network} mixes the images of a batch, so the influence of one image is not defined; "
            "use a normalisation that looks at one image (GroupNorm, LayerNorm), or batch normalisation in evaluation mode."
        )
    direction = torch.ones_like(params)
    try:
        inner, _ = fused_pass(network, params, direction, x, y)
    except (RuntimeError, NotImplementedError) as error:
        raise EngineError(
            f"The network {recipe.network} cannot be differentiated twice ({error}); replace the operation that torch names."
        ) from error
    alone = torch.stack([mean_gradient_of(network, params, x[i : i + 1], y[i : i + 1]) @ direction for i in range(COUNT)])
    if float((inner - alone).abs().max()) > LOOSE * max(1.0, float(inner.abs().max())):
        raise EngineError(
            f"torch computes another derivative for an image alone than in a batch with the network {recipe.network}; "
            "use GroupNorm or LayerNorm in place of its normalisation."
        )
    if _curvature_error(network, params, x, y) > LOOSE:
        raise EngineError(
            f"torch computes a wrong second derivative of the network {recipe.network}; replace what is not an ordinary layer by plain operations."
        )


def _curvature_error(network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    """How far H v is from a difference of gradients, relative to it, in float64: the least of several step sizes, as a kink may lie within one."""
    wide, theta, images = network.wide(), params.double(), x.double()
    v = torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).to(theta) / theta.numel() ** 0.5
    # A little off the start: where a last layer starts from zeros, nothing before it has a derivative to be wrong.
    theta = theta + 0.01 * v.flip(0) * theta.numel() ** 0.5
    _, exact = fused_pass(wide, theta, v, images, y)
    errors = []
    for epsilon in (1e-4, 1e-6, 1e-8):
        after, before = (mean_gradient_of(wide, theta + sign * epsilon * v, images, y) for sign in (1, -1))
        difference = (after - before) / (2 * epsilon)
        errors.append(float((exact - difference).norm()) / max(float(difference.norm()), 1e-6))
    return min(errors)
