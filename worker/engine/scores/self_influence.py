"""TracIn's self-influence (Pruthi et al. 2020, section 4)."""

import numpy as np
import torch

from worker.engine import images
from worker.engine.derivatives import head
from worker.engine.networks.linear_head import LinearHead
from worker.engine.networks.registry import Network
from worker.engine.scores.cost import ImagePasses, Sizes, count_from_seed
from worker.engine.scores.method import ScoresAndReport, ScoringRequest, attach
from worker.engine.scores.tracin import checkpoint_weight

LARGEST_BATCH = 64


def self_influence(request: ScoringRequest) -> ScoresAndReport:
    """Compute −Σ over the span's epochs e of η_e/((1 − μ)|S|) ‖∇ℓ(z_i; θ_e)‖², (N,).

    θ_e is at the epoch's end.
    """
    run = request.replay.run
    values = np.zeros(len(run.images))
    room = min(
        request.replay.budget // (2 * 4 * run.network.size),
        run.network.images_per_pass(run.recipe.shape, "fused"),
    )
    chunks = list(images.chunks(len(values), max(1, min(LARGEST_BATCH, room))))
    total = len(request.epochs) * len(chunks)
    for done, epoch in enumerate(request.epochs):
        params = request.replay.start(epoch + 1)[0]
        for part, positions in enumerate(chunks):
            request.progress(done * len(chunks) + part, total)
            x, y = images.unaugmented_batch(
                run.recipe, run.images, positions, params.dtype, run.device
            )
            values[positions] -= (
                checkpoint_weight(request, epoch)
                * squared_norms(run.network, params, x, y).double().cpu().numpy()
            )
    request.progress(total, total)
    return ScoresAndReport(values, {"span": request.span, "checkpoints": len(request.epochs)})


def squared_norms(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Compute ‖∇ℓ(z_i; θ)‖² of each image, (B,), holding all gradients, (B, P), but for a head.

    Args:
        params: θ, (P,).
    """
    if isinstance(network, LinearHead):
        return head.squared_norms(network, params, x, y)

    def loss(theta: torch.Tensor, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return network.losses(theta, image[None], label[None])[0]

    gradients: torch.Tensor = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        params, x, y
    )
    return gradients.square().sum(1)


def _count_passes(sizes: Sizes) -> ImagePasses:
    gradients = max(1, min(LARGEST_BATCH, sizes.budget // (2 * sizes.params_bytes)))
    return ImagePasses(
        gradient=sizes.epochs * sizes.count + count_from_seed(sizes),
        held=2 * gradients * sizes.params_bytes,
    )


METHOD = attach("self_influence", self_influence, _count_passes)
