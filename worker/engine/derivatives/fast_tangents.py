"""Operations whose derivative along a direction, and the derivative of that backwards, torch makes dearer than they need be.

Group normalisation: torch composes both from some thirty operations over the whole activation; here they are closed forms, two calls of torch's
own kernels and a few products. With z = (x − mean) r and r = 1 / √(var + ε) over the M values of an image's group, z has the symmetric Jacobian

    J(u) = r (u − mean(u) − z ⟨z, u⟩ / M)

which is what torch's backward kernel computes for γ = 1. So y = γ z + β has the tangent ẏ = γ J(ẋ) + γ̇ z + β̇. For a loss with gradient w by ẏ,
and a = γ w, p = ⟨z, ẋ⟩, q = ⟨a, z⟩, s = ⟨a, ẋ⟩ − M mean(a) mean(ẋ) − p q / M, the gradients are

    by ẋ: J(a)        by x: J(w γ̇ − (r/M) (p a + q ẋ)) − (r² s / M) z        by γ: Σ w J(ẋ)

The gradient of the plain output has no further derivatives here, so this is for passes along a direction alone.

Max pooling: torch looks for the largest values again in each derivative; here they are found once, and then only fetched.

docs/decisions/0012 has what they save; tests compare both with torch's own in float64.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_forward = torch.ops.aten.native_group_norm
_backward = torch.ops.aten.native_group_norm_backward
Maybe = torch.Tensor | None


class Along(TorchFunctionMode):
    """Within, these operations are ours, whoever calls them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _OURS.get(func, func)(*args, **(kwargs or {}))


def max_pool2d(input: torch.Tensor, *shape: Any, **named: Any) -> torch.Tensor:  # noqa: A002 - as below
    """torch.max_pool2d: the values at the places where they are largest."""
    with torch.no_grad():
        _, places = functional.max_pool2d_with_indices(input.detach(), *shape, **named)
    return input.flatten(-2).gather(-1, places.flatten(-2)).view(places.shape)


def group_norm(
    input: torch.Tensor,  # noqa: A002 - torch's own name, which callers may use
    num_groups: int,
    weight: Maybe = None,
    bias: Maybe = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """torch.nn.functional.group_norm: the same values and gradients, with cheaper derivatives along a direction and of those."""
    if weight is None or bias is None:
        return functional.group_norm(input, num_groups, weight, bias, eps)
    # As torch does where operations are rounded to bfloat16: normalising stays in the precision of the parameters.
    normalised: torch.Tensor = _GroupNorm.apply(
        input.to(weight.dtype), weight, bias, num_groups, eps
    )[0]
    return normalised


class _GroupNorm(Function):
    @staticmethod
    def forward(x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        batch, channels = x.shape[:2]
        return _forward(x.contiguous(), weight, bias, batch, channels, _places(x), groups, eps)

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
        needed = [True, True, True]
        by_x, by_weight, by_bias = _backward(
            gradient.contiguous(),
            x.contiguous(),
            mean,
            r,
            weight,
            batch,
            channels,
            _places(x),
            ctx.groups,
            needed,
        )
        return by_x, by_weight, by_bias, None, None

    @staticmethod
    def jvp(ctx: Any, x_along: Any, weight_along: Any, bias_along: Any, *_numbers: Any) -> Any:
        x, weight, mean, r = ctx.saved_tensors
        zeros = torch.zeros_like
        # None stands for a tangent of zeros: the first layer's input does not move.
        along = [
            zeros(of) if tangent is None else tangent
            for tangent, of in ((x_along, x), (weight_along, weight), (bias_along, weight))
        ]
        return (
            _Tangent.apply(x, along[0], weight, along[1], along[2], mean, r, ctx.groups),
            None,
            None,
        )


class _Tangent(Function):
    """ẏ = γ J(ẋ) + γ̇ z + β̇, and its gradients by x, ẋ and γ. By γ̇ and β̇ there is none: nothing differentiates by the direction."""

    @staticmethod
    def forward(
        x: Any,
        x_along: Any,
        weight: Any,
        weight_along: Any,
        bias_along: Any,
        mean: Any,
        r: Any,
        groups: int,
    ) -> Any:
        over = _Over(x, groups)
        # γ̇ z + β̇ = x (γ̇ r) + (β̇ − γ̇ mean r)
        scale = over.channels(r) * weight_along
        shift = bias_along - over.channels(mean) * scale
        straight = torch.addcmul(over.image(shift), x, over.image(scale))
        return straight.addcmul_(over.jacobian(x_along, mean, r), over.image(weight[None]))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004 - called by name
        x, x_along, weight, weight_along, _, mean, r, ctx.groups = inputs
        ctx.save_for_backward(x, x_along, weight, weight_along, mean, r)

    @staticmethod
    def backward(ctx: Any, w: Any) -> Any:
        x, x_along, weight, weight_along, mean, r = ctx.saved_tensors
        over = _Over(x, ctx.groups)
        means, rs = over.channels(mean), over.channels(r)
        # Sums over the places of each image and channel, (B, C).
        w_sum, along_sum = over.sum(w), over.sum(x_along)
        w_along, w_z = over.dot(w, x_along), (over.dot(w, x) - w_sum * means) * rs
        # Sums over each image and group, (B, G).
        p = over.grouped((over.dot(x, x_along) - along_sum * means) * rs)
        q = over.grouped(weight * w_z)
        a_mean, along_mean = (
            over.grouped(weight * w_sum) / over.size,
            over.grouped(along_sum) / over.size,
        )
        s = over.grouped(weight * w_along) - over.size * a_mean * along_mean - p * q / over.size
        # w γ̇ − (r/M) (p γ w + q ẋ)
        inside = w * over.image(weight_along - over.channels(r * p / over.size) * weight)
        inside = inside.addcmul_(x_along, over.image(over.channels(r * q / over.size)), value=-1)
        curved = over.channels(r * r * s / over.size) * rs
        by_x = (
            over.jacobian(inside, mean, r)
            .addcmul_(x, over.image(curved), value=-1)
            .add_(over.image(curved * means))
        )
        by_along = over.jacobian(w * over.image(weight[None]), mean, r)
        by_weight = (
            rs * (w_along - over.channels(along_mean) * w_sum - w_z * over.channels(p) / over.size)
        ).sum(0)
        return by_x, by_along, by_weight, None, None, None, None, None


class _Over:
    """An activation x (B, C, …) in G groups: sums over its places and groups, and numbers spread over them. size: M, values a group."""

    def __init__(self, x: torch.Tensor, groups: int) -> None:
        self.x = x.contiguous()
        self.groups = groups
        self.batch, self.width = x.shape[:2]
        self.places = _places(x)
        self.size = self.places * self.width // groups

    def jacobian(self, u: torch.Tensor, mean: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """J(u), like u."""
        args = (
            mean,
            r,
            None,
            self.batch,
            self.width,
            self.places,
            self.groups,
            [True, False, False],
        )
        result: torch.Tensor = _backward(u.contiguous(), self.x, *args)[0]
        return result

    def dot(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Σ a b over the places, (B, C), without their product in memory."""
        rows = self.batch * self.width
        return torch.bmm(a.reshape(rows, 1, self.places), b.reshape(rows, self.places, 1)).view(
            self.batch, self.width
        )

    def sum(self, a: torch.Tensor) -> torch.Tensor:
        """Σ a over the places, (B, C)."""
        return a.reshape(self.batch, self.width, self.places).sum(2)

    def grouped(self, of_channels: torch.Tensor) -> torch.Tensor:
        """(B, C) summed over each group, (B, G)."""
        return of_channels.view(self.batch, self.groups, -1).sum(2)

    def channels(self, of_groups: torch.Tensor) -> torch.Tensor:
        """(B, G) for each channel, (B, C)."""
        return of_groups.repeat_interleave(self.width // self.groups, 1)

    def image(self, of_channels: torch.Tensor) -> torch.Tensor:
        """(B, C) or (1, C), ready to be spread over the places."""
        return of_channels.view(*of_channels.shape, *[1] * (self.x.dim() - 2))


def _places(x: torch.Tensor) -> int:
    return x[0, 0].numel()


_OURS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.group_norm: group_norm,
    torch.max_pool2d: max_pool2d,
}
