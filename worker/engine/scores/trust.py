"""Predictions compared with measurements (docs/method.md, section 7)."""

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from worker.engine import images
from worker.engine.derivatives import head
from worker.engine.derivatives.passes import TrainingStep, products
from worker.engine.images import Images
from worker.engine.influence.replay import Replay
from worker.engine.networks.linear_head import LinearHead
from worker.engine.networks.registry import Network
from worker.engine.recipe import Recipe
from worker.engine.sweep import Progress, evaluate_params, iterate_parts

TOP = 0.02


def validation_gradient(
    network: Network, recipe: Recipe, params: torch.Tensor, validation: Images
) -> torch.Tensor:
    """Compute u_T, the gradient of the mean validation loss, (P,).

    Args:
        params: θ_T, (P,).
    """
    if isinstance(network, LinearHead):
        everyone = np.zeros(len(validation), dtype=np.int64)
        return group_gradients(network, recipe, params, validation, everyone)[0]
    gradient = torch.zeros_like(params)
    theta = params.detach().clone().requires_grad_()
    for _, x, y in iterate_parts(network, recipe, params, validation, "gradient"):
        loss = functional.cross_entropy(network.logits(theta, x), y, reduction="sum") / len(
            validation
        )
        gradient += torch.autograd.grad(loss, theta)[0]
    return gradient


def group_gradients(
    network: Network, recipe: Recipe, params: torch.Tensor, validation: Images, groups: np.ndarray
) -> torch.Tensor:
    """Compute the gradient of each group's mean validation loss, (K, P).

    Args:
        params: θ_T, (P,).
        groups: (V,) the group of each image, from 0.
    """
    sizes = np.bincount(groups)
    if not isinstance(network, LinearHead):
        parts = [validation.subset(np.flatnonzero(groups == group)) for group in range(len(sizes))]
        return torch.stack([validation_gradient(network, recipe, params, part) for part in parts])
    total = params.new_zeros(len(sizes), len(params))
    for positions, x, y in iterate_parts(network, recipe, params, validation, "gradient"):
        of_image = torch.from_numpy(groups[positions]).to(params.device)
        total += head.group_gradients(network, params, x, y, of_image, len(sizes))
    return total / torch.from_numpy(sizes).to(total)[:, None]


def finite_difference_error(network: Network, step: TrainingStep, direction: torch.Tensor) -> float:
    """Check ⟨v, ∇ℓ(z_i)⟩ against central differences in float64.

    Args:
        direction: v, (P,).

    Returns:
        The largest error, relative to the largest product.
    """
    wide = network.to_float64()
    # Float64 takes twice the memory.
    some = slice(0, max(1, network.images_per_pass(tuple(step.x.shape[1:]), "products") // 2))
    params, v, x, y = step.params.double(), direction.double(), step.x[some].double(), step.y[some]
    epsilon = 1e-5 * float(params.norm()) / max(float(v.norm()), 1e-30)
    with torch.no_grad():
        differences = (
            wide.losses(params + epsilon * v, x, y) - wide.losses(params - epsilon * v, x, y)
        ) / (2 * epsilon)
    exact = products(wide, params, v, x, y)
    return float((differences - exact).abs().max() / exact.abs().max().clamp_min(1e-30))


def top_group(values: np.ndarray) -> np.ndarray:
    """Return positions of the lowest 2 %, never none."""
    return np.argsort(values, kind="stable")[: max(1, int(TOP * len(values)))]


def report_prediction(values: np.ndarray) -> dict[str, Any]:
    """Predict the top group's change: the sum of its influences."""
    top = top_group(values)
    return {"top_group": len(top), "predicted_change": float(values[top].sum())}


def report_measurement(change: float | None) -> dict[str, Any]:
    """Report a measured change, None if the training diverged."""
    return {"diverged_without": True} if change is None else {"measured_change": change}


def measure_change(
    replay: Replay, validation: Images, positions: np.ndarray, epochs: range, progress: Progress
) -> float | None:
    """Measure the change of the mean validation loss without some images.

    Call `Replay.check_repeats` first, or a drift is measured too.

    Args:
        positions: of the images left out, (K,).
        epochs: to train again.
        progress: called as progress(done, total); may raise to stop.

    Returns:
        The change, or None if training diverges.
    """
    run = replay.run
    keep = torch.ones(len(run.images))
    keep[torch.from_numpy(positions)] = 0.0
    counterfactual = dataclasses.replace(run, keep=keep)
    point, total = replay.start(epochs[0]), len(epochs) * run.steps
    for epoch in epochs:
        order = images.draw_batches(run.recipe, run.images, epoch)
        with run.prefetch(epoch, order) as batch:
            for t, left in enumerate(order):
                point = counterfactual.advance(point, *batch(t), left, run.rate(epoch, t))[0]
                progress((epoch - epochs[0]) * run.steps + t + 1, total)
    after = evaluate_params(run.network, run.recipe, point[0], validation)[1]
    return (
        after - evaluate_params(run.network, run.recipe, replay.final_params(), validation)[1]
        if math.isfinite(after)
        else None
    )
