"""Which validation images an image hurts and helps."""

import numpy as np
import torch

from worker.engine import data
from worker.engine.data import Images
from worker.engine.models import build
from worker.engine.retrace import PASS, mean_gradient_of, products
from worker.engine.training import Training


def explain(training: Training, images: Images, validation: Images, position: int) -> np.ndarray:
    """The change of each validation image's loss if the last step that saw the image had not, (N_validation,) float64; low = hurt most.

    position: of the image in `images`. The image's own effect on θ is +(η/|S|) ∇ℓ(z_i; θ_T), taken at the end of training, and one JVP of the
    validation losses along it gives all entries at once. A first-order view for "why", not the influence that ranks.
    """
    network, _ = build(training.recipe)
    x, y = data.plain(training.recipe, images, np.array([position]), torch.float32)
    scale = training.recipe.learning_rate / training.recipe.batch_size
    effect = scale * mean_gradient_of(network, training.params, x, y)  # δθ when the image leaves, (P,)
    changes = np.empty(len(validation))
    for start in range(0, len(validation), PASS):
        chunk = np.arange(start, min(start + PASS, len(validation)))
        x, y = data.plain(training.recipe, validation, chunk, torch.float32)
        changes[chunk] = products(network, training.params, effect, x, y).double().numpy()
    return changes
