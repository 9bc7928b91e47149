"""Faster forward-over-reverse derivatives for GroupNorm and max pooling.

With z = (x − mean) r, r = 1 / √(var + ε) over a group's M values, y = γ z + β:

    J(u) = r (u − mean(u) − z ⟨z, u⟩ / M)          ∂z/∂x, symmetric; torch's backward kernel
    ẏ    = γ J(ẋ) + γ̇ z + β̇                        tangent

For a loss with gradient w by ẏ, and a = γ w, p = ⟨z, ẋ⟩, q = ⟨a, z⟩,
s = ⟨a, ẋ⟩ − M mean(a) mean(ẋ) − p q / M, its gradients are

    by ẋ: J(a)
    by x: J(w γ̇ − (r/M) (p a + q ẋ)) − (r² s / M) z
    by γ: Σ w J(ẋ)

y itself has no second derivatives here. Savings: docs/decisions/0012.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_forward = torch.ops.aten.native_group_norm
_backward = torch.ops.aten.native_group_norm_backward
OptionalTensor = torch.Tensor | None


class FastTangents(TorchFunctionMode):
    """Replace torch's operations by these."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))


def max_pool2d(
    input: torch.Tensor,  # noqa: A002 - as below
    *shape: Any,
    **named: Any,
) -> torch.Tensor:
    """Compute torch.max_pool2d, finding the largest values once for all derivatives."""
    with torch.no_grad():
        _, places = functional.max_pool2d_with_indices(input.detach(), *shape, **named)
    return input.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)


def group_norm(
    input: torch.Tensor,  # noqa: A002 - torch's name
    num_groups: int,
    weight: OptionalTensor = None,
    bias: OptionalTensor = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Compute torch's group_norm with cheaper tangents."""
    if weight is None or bias is None:
        return functional.group_norm(input, num_groups, weight, bias, eps)
    # Like torch under autocast: in the parameters' precision.
    normalised: torch.Tensor = _GroupNorm.apply(
        input.to(weight.dtype), weight, bias, num_groups, eps
    )[0]
    return normalised


class _GroupNorm(Function):
    @staticmethod
    def forward(x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        batch, channels = x.shape[:2]
        return _forward(x.contiguous(), weight, bias, batch, channels, _place_count(x), groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, _, ctx.groups, _ = inputs
        _, mean, r = output
        ctx.mark_non_differentiable(mean, r)
        ctx.save_for_backward(x, weight, mean, r)
        ctx.save_for_forward(x, weight, mean, r)

    @staticmethod
    def backward(ctx: Any, gradient: Any, *_statistics: Any) -> Any:
        x, weight, mean, r = ctx.saved_tensors
        batch, channels = x.shape[:2]
        wanted = [True, True, True]
        by_x, by_weight, by_bias = _backward(
            gradient.contiguous(),
            x.contiguous(),
            mean,
            r,
            weight,
            batch,
            channels,
            _place_count(x),
            ctx.groups,
            wanted,
        )
        return by_x, by_weight, by_bias, None, None

    @staticmethod
    def jvp(
        ctx: Any, x_tangent: Any, weight_tangent: Any, bias_tangent: Any, *_numbers: Any
    ) -> Any:
        x, weight, mean, r = ctx.saved_tensors
        zeros = torch.zeros_like
        # None is a zero tangent.
        tangents = [
            zeros(of) if tangent is None else tangent
            for tangent, of in ((x_tangent, x), (weight_tangent, weight), (bias_tangent, weight))
        ]
        return (
            _GroupNormTangent.apply(
                x, tangents[0], weight, tangents[1], tangents[2], mean, r, ctx.groups
            ),
            None,
            None,
        )


class _GroupNormTangent(Function):
    """ẏ, and its gradients by x, ẋ and γ (never needed by γ̇ and β̇)."""

    @staticmethod
    def forward(
        x: Any,
        x_tangent: Any,
        weight: Any,
        weight_tangent: Any,
        bias_tangent: Any,
        mean: Any,
        r: Any,
        groups: int,
    ) -> Any:
        grouped = _Groups(x, groups)
        # γ̇ z + β̇ = x (γ̇ r) + (β̇ − γ̇ mean r)
        scale = grouped.to_channels(r) * weight_tangent
        shift = bias_tangent - grouped.to_channels(mean) * scale
        straight = torch.addcmul(grouped.to_places(shift), x, grouped.to_places(scale))
        return straight.addcmul_(
            grouped.jacobian(x_tangent, mean, r), grouped.to_places(weight[None])
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004 - called by name
        x, x_tangent, weight, weight_tangent, _, mean, r, ctx.groups = inputs
        ctx.save_for_backward(x, x_tangent, weight, weight_tangent, mean, r)

    @staticmethod
    def backward(ctx: Any, w: Any) -> Any:
        x, x_tangent, weight, weight_tangent, mean, r = ctx.saved_tensors
        grouped = _Groups(x, ctx.groups)
        means, rs = grouped.to_channels(mean), grouped.to_channels(r)
        # Sums over places, (B, C).
        w_sum, tangent_sum = grouped.sum(w), grouped.sum(x_tangent)
        w_tangent, w_z = grouped.dot(w, x_tangent), (grouped.dot(w, x) - w_sum * means) * rs
        # Sums over groups, (B, G).
        p = grouped.sum_groups((grouped.dot(x, x_tangent) - tangent_sum * means) * rs)
        q = grouped.sum_groups(weight * w_z)
        a_mean, tangent_mean = (
            grouped.sum_groups(weight * w_sum) / grouped.size,
            grouped.sum_groups(tangent_sum) / grouped.size,
        )
        s = (
            grouped.sum_groups(weight * w_tangent)
            - grouped.size * a_mean * tangent_mean
            - p * q / grouped.size
        )
        # w γ̇ − (r/M) (p γ w + q ẋ)
        inside = w * grouped.to_places(
            weight_tangent - grouped.to_channels(r * p / grouped.size) * weight
        )
        inside = inside.addcmul_(
            x_tangent, grouped.to_places(grouped.to_channels(r * q / grouped.size)), value=-1
        )
        curved = grouped.to_channels(r * r * s / grouped.size) * rs
        by_x = (
            grouped.jacobian(inside, mean, r)
            .addcmul_(x, grouped.to_places(curved), value=-1)
            .add_(grouped.to_places(curved * means))
        )
        by_tangent = grouped.jacobian(w * grouped.to_places(weight[None]), mean, r)
        by_weight = (
            rs
            * (
                w_tangent
                - grouped.to_channels(tangent_mean) * w_sum
                - w_z * grouped.to_channels(p) / grouped.size
            )
        ).sum(0)
        return by_x, by_tangent, by_weight, None, None, None, None, None


class _Groups:
    """Activation x (B, C, …) in G groups of M values (`size`)."""

    def __init__(self, x: torch.Tensor, groups: int) -> None:
        self.x = x.contiguous()
        self.groups = groups
        self.batch, self.channels = x.shape[:2]
        self.places = _place_count(x)
        self.size = self.places * self.channels // groups

    def jacobian(self, u: torch.Tensor, mean: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """Compute J(u)."""
        args = (
            mean,
            r,
            None,
            self.batch,
            self.channels,
            self.places,
            self.groups,
            [True, False, False],
        )
        result: torch.Tensor = _backward(u.contiguous(), self.x, *args)[0]
        return result

    def dot(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Sum a b over places, (B, C), without storing the product."""
        rows = self.batch * self.channels
        return torch.bmm(a.reshape(rows, 1, self.places), b.reshape(rows, self.places, 1)).view(
            self.batch, self.channels
        )

    def sum(self, a: torch.Tensor) -> torch.Tensor:
        """Sum over places, (B, C)."""
        return a.reshape(self.batch, self.channels, self.places).sum(2)

    def sum_groups(self, per_channel: torch.Tensor) -> torch.Tensor:
        """Sum (B, C) over groups, (B, G)."""
        return per_channel.view(self.batch, self.groups, -1).sum(2)

    def to_channels(self, per_group: torch.Tensor) -> torch.Tensor:
        """Spread (B, G) over channels, (B, C)."""
        return per_group.repeat_interleave(self.channels // self.groups, 1)

    def to_places(self, per_channel: torch.Tensor) -> torch.Tensor:
        """View (B, C) or (1, C) to broadcast over places."""
        return per_channel.view(*per_channel.shape, *[1] * (self.x.dim() - 2))


def _place_count(x: torch.Tensor) -> int:
    return x[0, 0].numel()


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.group_norm: group_norm,
    torch.max_pool2d: max_pool2d,
}
