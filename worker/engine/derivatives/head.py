"""Closed forms of a linear head's derivatives (docs/method.md, section 11).

With x_i (D + 1,), p_i = softmax(W x_i), r_i = p_i − e_{y_i} and a direction V, as W (C, D + 1):

    a_i = V x_i        ⟨V, ∇ℓ_i⟩ = r_iᵀ a_i        H V = (1/|S|) Σ (p_i∘a_i − p_i (p_iᵀ a_i)) x_iᵀ

K directions at once are one of (K C, D + 1): three matrix products, as many as for a single one.
"""

import torch
from torch.nn import functional

from worker.engine.networks.linear_head import LinearHead


def fused_pass(
    head: LinearHead,
    params: torch.Tensor,
    directions: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute inner products, Hessian–vector products and the logits' changes.

    Args:
        params: θ, (P,).
        directions: K of them, (K, P).
        x, y: (B, D + 1) and (B,).
        weights: (B,), 0 for images left out (the divisor stays).

    Returns:
        ⟨v_k, ∇ℓ(z_i)⟩, (B, K), H v_k of the mean loss, (K, P), and V_k x_i, (B, K, C).
    """
    probabilities = head.logits(params, x).softmax(1)
    changes = _logit_changes(head, directions, x)
    expected = torch.einsum("bc,bkc->bk", probabilities, changes)
    products = expected - _of_label(changes, y)
    curved = probabilities[:, None] * (changes - expected[:, :, None])
    if weights is not None:
        curved = curved * weights[:, None, None]
    hessian_products = (curved.flatten(1).T @ x).view(directions.shape) / len(y)
    return products, hessian_products, changes


def products(
    head: LinearHead,
    params: torch.Tensor,
    direction: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """Compute ⟨v, ∇ℓ(z_i; θ)⟩, (B,), for v (P,)."""
    residuals = _residuals(head.logits(params, x), y)
    return (residuals * head.logits(direction, x)).sum(1)


def step(
    head: LinearHead,
    params: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradient of the mean loss, (P,), logits (B, C), and losses (B,)."""
    logits = head.logits(params, x)
    log_probabilities = logits.log_softmax(1)
    losses = -_of_label(log_probabilities, y)
    residuals = log_probabilities.exp()
    residuals[torch.arange(len(y), device=y.device), y] -= 1.0
    if weights is not None:
        residuals = residuals * weights[:, None]
    return (residuals.T @ x).flatten() / len(y), logits, losses


def group_gradients(
    head: LinearHead,
    params: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    groups: torch.Tensor,
    count: int,
) -> torch.Tensor:
    """Sum ∇ℓ(z_j; θ) over each of `count` groups, (K, P). groups: (B,) numbers from 0."""
    residuals = _residuals(head.logits(params, x), y)
    members = functional.one_hot(groups, count).to(x.dtype)
    by_group = torch.einsum("bk,bc->kcb", members, residuals)
    return (by_group.flatten(0, 1) @ x).view(count, -1)


def squared_norms(
    head: LinearHead, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Compute ‖∇ℓ(z_i; θ)‖² = ‖r_i‖² ‖x_i‖² of each image, (B,)."""
    residuals = _residuals(head.logits(params, x), y)
    return residuals.square().sum(1) * x.square().sum(1)


def _logit_changes(head: LinearHead, directions: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    stacked = head.weight(directions).flatten(0, 1)  # (K C, D + 1)
    return (x @ stacked.T).view(len(x), len(directions), head.classes)


def _residuals(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    residuals = logits.softmax(1)
    residuals[torch.arange(len(y), device=y.device), y] -= 1.0
    return residuals


def _of_label(values: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Take the label's entry of the last axis, (B,) or (B, K)."""
    places = y.view(-1, *[1] * (values.dim() - 1)).expand(*values.shape[:-1], 1)
    return values.gather(-1, places).squeeze(-1)
