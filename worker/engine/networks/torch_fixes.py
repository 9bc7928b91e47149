"""Operations that torch 2.13 differentiates wrongly in the fused pass.

Layer and instance normalisation are silently wrong there; hardsigmoid and glu have no
derivative (docs/decisions/0019).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

OptionalTensor = torch.Tensor | None


class DifferentiableOperations(TorchFunctionMode):
    """Replace torch's operations by these."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))


def layer_norm(
    x: torch.Tensor,
    normalized_shape: Iterable[int],
    weight: OptionalTensor = None,
    bias: OptionalTensor = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Compute γ (x − mean) / √(var + ε) + β over the last axes."""
    y = _standardise(x, tuple(range(-len(tuple(normalized_shape)), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def instance_norm(
    x: torch.Tensor,
    running_mean: OptionalTensor = None,
    running_var: OptionalTensor = None,
    weight: OptionalTensor = None,
    bias: OptionalTensor = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001 - torch's signature
    eps: float = 1e-5,
) -> torch.Tensor:
    """Normalise each image and channel over its places."""
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return _scale_channels(_standardise(x, tuple(range(2, x.dim())), eps), weight, bias)


def batch_norm(
    x: torch.Tensor,
    running_mean: OptionalTensor,
    running_var: OptionalTensor,
    weight: OptionalTensor = None,
    bias: OptionalTensor = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Normalise by stored statistics; torch's own for the batch's."""
    if training or running_mean is None or running_var is None:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    return _scale_channels(x, scale, shift if bias is None else shift + bias)


def hardsigmoid(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:  # noqa: ARG001 - as above
    """Compute min(max(x + 3, 0), 6) / 6."""
    return functional.relu6(x + 3) / 6


def glu(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Gate the first half by the second."""
    half, gate = x.chunk(2, dim)
    return half * gate.sigmoid()


def _standardise(x: torch.Tensor, axes: tuple[int, ...], eps: float) -> torch.Tensor:
    # Like torch: sums need float32.
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    centred = x - x.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()


def _scale_channels(x: torch.Tensor, scale: OptionalTensor, shift: OptionalTensor) -> torch.Tensor:
    places = (-1, *[1] * (x.dim() - 2))
    y = x if scale is None else x * scale.view(places)
    return y if shift is None else y + shift.view(places)


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.layer_norm: layer_norm,
    functional.instance_norm: instance_norm,
    functional.batch_norm: batch_norm,
    functional.hardsigmoid: hardsigmoid,
    functional.glu: glu,
}
