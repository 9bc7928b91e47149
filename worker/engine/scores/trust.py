"""How far a scoring can be trusted (influence.md, section 7)."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from worker.engine import data
from worker.engine.data import Images
from worker.engine.models import Network
from worker.engine.recipe import Recipe
from worker.engine.retrace import PASS, TrainingStep, products
from worker.engine.scores.asked import Asked
from worker.engine.training import Runner, evaluate_params
from worker.engine.trajectory import epoch_file, read_point

# The part of the images whose joint effect is predicted and measured.
TOP = 0.02


def validation_gradient(network: Network, recipe: Recipe, params: torch.Tensor, validation: Images) -> torch.Tensor:
    """u_T: the gradient of the mean validation loss at θ_T, (P,), in chunks."""
    gradient = torch.zeros_like(params)
    theta = params.detach().clone().requires_grad_()
    for start in range(0, len(validation), PASS):
        positions = np.arange(start, min(start + PASS, len(validation)))
        x, y = data.plain(recipe, validation, positions, params.dtype)
        loss = functional.cross_entropy(network.logits(theta, x), y, reduction="sum") / len(validation)
        gradient += torch.autograd.grad(loss, theta)[0]
    return gradient


def finite_difference_error(network: Network, step: TrainingStep, direction: torch.Tensor) -> float:
    """Largest error of ⟨v, ∇ℓ(z_i)⟩ against central differences in float64, relative to the largest product."""
    wide = Network(network.module.double())
    try:
        params, v, x = step.params.double(), direction.double(), step.x.double()
        epsilon = 1e-5 * float(params.norm()) / max(float(v.norm()), 1e-30)
        with torch.no_grad():
            differences = (wide.losses(params + epsilon * v, x, step.y) - wide.losses(params - epsilon * v, x, step.y)) / (2 * epsilon)
        exact = products(wide, params, v, x, step.y)
    finally:
        network.module.to(step.params.dtype)
    return float((differences - exact).abs().max() / exact.abs().max().clamp_min(1e-30))


def top_group(asked: Asked, values: np.ndarray) -> dict[str, Any]:
    """The predicted change of the validation loss when the most harmful images leave and, where asked, the measured one."""
    count = max(1, int(TOP * len(values)))
    top = np.argsort(values, kind="stable")[:count]
    report: dict[str, Any] = {"top_group": count, "predicted_change": float(values[top].sum())}
    if asked.verify and asked.span == "last_epoch" and asked.replay.training.record.store in ("epoch_starts", "every_step"):
        report["measured_change"] = _last_epoch_without(asked, top)
    return report


def _last_epoch_without(asked: Asked, positions: np.ndarray) -> float:
    """The change of the mean validation loss when the last epoch is run again without these images ("Retrain Last")."""
    replay = asked.replay
    run = replay.run
    last = run.recipe.epochs - 1
    keep = torch.ones(len(run.images))
    keep[torch.from_numpy(positions)] = 0.0
    counterfactual = Runner(run.recipe, run.images, run.network, run.update, keep)
    point = read_point(epoch_file(replay.training.folder, last))
    for t, batch in enumerate(data.batches(run.recipe, run.images, last)):
        x, y = run.batch(last, batch)
        point = counterfactual.advance(point, x, y, batch, run.rate(last, t))[0]
    after = evaluate_params(run.network, run.recipe, point[0], asked.validation)[1]
    return after - evaluate_params(run.network, run.recipe, replay.final_params(), asked.validation)[1]
