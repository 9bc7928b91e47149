"""TracIn's self-influence (Pruthi et al. 2020, section 4): how much an image taught the model about itself alone."""

import numpy as np
import torch

from worker.engine import images
from worker.engine.networks.registry import Network
from worker.engine.scores.cost import Looks, Sizes, from_seed
from worker.engine.scores.method import Asked, Scored, attach
from worker.engine.scores.tracin import checkpoint_weight

# Most gradients in memory at once.
AT_ONCE = 64


def self_influence(asked: Asked) -> Scored:
    """−Σ over the span's epochs e of η_e/((1 − μ)|S|) ‖∇ℓ(z_i; θ_e)‖², θ_e at the epoch's end, (N,); unusual and mislabelled images come first."""
    run = asked.replay.run
    values = np.zeros(len(run.images))
    room = min(
        asked.replay.budget // (2 * 4 * run.network.size),
        run.network.images_a_pass(run.recipe.shape, "fused"),
    )
    chunks = list(images.chunks(len(values), max(1, min(AT_ONCE, room))))
    total = len(asked.epochs) * len(chunks)
    for done, epoch in enumerate(asked.epochs):
        params = asked.replay.start(epoch + 1)[0]
        for part, positions in enumerate(chunks):
            asked.progress(done * len(chunks) + part, total)
            x, y = images.unaugmented_batch(
                run.recipe, run.images, positions, params.dtype, run.device
            )
            values[positions] -= (
                checkpoint_weight(asked, epoch)
                * squared_norms(run.network, params, x, y).double().cpu().numpy()
            )
    asked.progress(total, total)
    return values, {"span": asked.span, "checkpoints": len(asked.epochs)}


def squared_norms(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """‖∇ℓ(z_i; θ)‖² of each image, (B,). The norm is not linear in the gradient, so the B gradients, (B, P), stand in memory here."""

    def loss(theta: torch.Tensor, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return network.losses(theta, image[None], label[None])[0]

    gradients: torch.Tensor = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        params, x, y
    )
    return gradients.square().sum(1)


def _looks(sizes: Sizes) -> Looks:
    gradients = max(1, min(AT_ONCE, sizes.budget // (2 * sizes.params_bytes)))
    return Looks(
        gradient=sizes.epochs * sizes.count + from_seed(sizes),
        held=2 * gradients * sizes.params_bytes,
    )


METHOD = attach("self_influence", self_influence, _looks)
