"""Operations that torch 2.13 does not differentiate rightly, or at all, the way the fused pass needs it, from operations that it does.

The fused pass differentiates a forward-mode derivative backwards. torch computes that wrongly, without a word, for layer normalisation and for
normalisation by the statistics of what is normalised (its formula takes mean and spread for constants), and has no such derivative for
hardsigmoid and glu. Backwards alone, it misreads the strides of a gradient in batch normalisation of one image in evaluation mode.
docs/decisions/0019 has the figures; tests compare each network's second derivatives with differences of first ones.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Maybe = torch.Tensor | None


class Plain(TorchFunctionMode):
    """Within, these operations are ours, whoever calls them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _OURS.get(func, func)(*args, **(kwargs or {}))


def layer_norm(
    x: torch.Tensor,
    normalized_shape: Iterable[int],
    weight: Maybe = None,
    bias: Maybe = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """(x − mean) / √(var + ε), over the last axes, times γ plus β."""
    y = _standardised(x, tuple(range(-len(tuple(normalized_shape)), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def instance_norm(
    x: torch.Tensor,
    running_mean: Maybe = None,
    running_var: Maybe = None,
    weight: Maybe = None,
    bias: Maybe = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001 - torch's signature; nothing is running here
    eps: float = 1e-5,
) -> torch.Tensor:
    """(x − mean) / √(var + ε), over the places of each image and channel; by stored statistics where asked."""
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return _scaled(_standardised(x, tuple(range(2, x.dim())), eps), weight, bias)


def batch_norm(
    x: torch.Tensor,
    running_mean: Maybe,
    running_var: Maybe,
    weight: Maybe = None,
    bias: Maybe = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """(x − mean) / √(var + ε) by stored statistics, times γ plus β: a function of one image. By those of the batch it stays torch's."""
    if training or running_mean is None or running_var is None:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    return _scaled(x, scale, shift if bias is None else shift + bias)


def hardsigmoid(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:  # noqa: ARG001 - torch's signature; in place is never right here
    """min(max(x + 3, 0), 6) / 6."""
    return functional.relu6(x + 3) / 6


def glu(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """The first half, gated by the second."""
    half, gate = x.chunk(2, dim)
    return half * gate.sigmoid()


def _standardised(x: torch.Tensor, axes: tuple[int, ...], eps: float) -> torch.Tensor:
    # As torch does: sums in lower precision are worth little.
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    centred = x - x.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()


def _scaled(x: torch.Tensor, scale: Maybe, shift: Maybe) -> torch.Tensor:
    """x (B, C, …) with a scale and a shift for each channel."""
    places = (-1, *[1] * (x.dim() - 2))
    y = x if scale is None else x * scale.view(places)
    return y if shift is None else y + shift.view(places)


_OURS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: layer_norm,
    functional.instance_norm: instance_norm,
    functional.batch_norm: batch_norm,
    functional.hardsigmoid: hardsigmoid,
    functional.glu: glu,
}
