"""Networks as pure functions of one flat parameter vector."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worker.engine.errors import EngineError
from worker.engine.networks.torch_fixes import DifferentiableOperations

# Bytes of a pass and of the fused pass. Constants: other part sizes may round differently.
PASS_BYTES, FUSED_BYTES = 2**27, 2**29
LARGEST_PASS = 256
# A GPU's parts are this many times larger.
GPU_TIMES = 16
# Memory per image in multiples of (all activations, the largest): a backward pass keeps all,
# a tangent doubles every tensor.
_HELD = {"logits": (0, 4), "products": (0, 8), "gradient": (1, 4), "fused": (4, 8)}


class Network:
    """Network as a pure function of parameters (P,) and a batch.

    Untrained and frozen parameters (`requires_grad=False`) are constants, not in (P,).

    Args:
        module: from (B, C, H, W) to logits; its values are never changed.
        trained: "all" or "head" (the last linear layer).

    Raises:
        EngineError: nothing to train.
    """

    def __init__(self, module: nn.Module, trained: str = "all") -> None:
        self.module = _prepare(module)
        self.trained = trained
        self.head = last_linear(module)
        if trained == "head" and self.head is None:
            raise EngineError(
                "Only the last linear layer was to be trained, but the network has none; train "
                "all of it."
            )
        part = module if trained == "all" else module.get_submodule(str(self.head))
        # By identity: layers may share a parameter.
        trained_ids = {id(p) for p in part.parameters() if p.requires_grad}
        chosen = [(name, p) for name, p in module.named_parameters() if id(p) in trained_ids]
        if not chosen:
            frozen = any(True for _ in part.parameters())
            raise EngineError(
                "The network has no parameters to "
                f"train{': all of them have requires_grad=False' if frozen else ''}; use one that "
                "has some."
            )
        for p in module.parameters():
            p.requires_grad_(id(p) in trained_ids)
        first_names: dict[int, str] = {}
        # Every name of a parameter → its first.
        self.aliases = {
            name: first_names.setdefault(id(p), name)
            for name, p in module.named_parameters(remove_duplicate=False)
        }
        self.names = [name for name, _ in chosen]
        self.shapes = [p.shape for _, p in chosen]
        self.sizes = [p.numel() for _, p in chosen]
        self.buffers = dict(module.named_buffers())
        self._measured: dict[tuple[int, ...], tuple[int, int]] = {}

    @property
    def size(self) -> int:
        """P, the number of trained parameters."""
        return sum(self.sizes)

    @property
    def feature_count(self) -> int:
        """D, the last linear layer's inputs; 0 without such a layer."""
        return (
            self.module.get_submodule(self.head).in_features  # type: ignore[return-value]  # an int
            if self.head is not None
            else 0
        )

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def initial(self) -> torch.Tensor:
        """The module's own parameters, (P,)."""
        own = dict(self.module.named_parameters())
        return torch.cat([own[name].detach().reshape(-1) for name in self.names])

    def split(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """Split a vector (P,) by name."""
        pieces = torch.split(params, self.sizes)
        return {
            name: piece.view(shape)
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def last_layer(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take the last layer's W (classes, D) and b (classes,) from a vector (P,).

        Raises:
            EngineError: the layer is not trained.
        """
        pieces = self.split(vector)
        weight, bias = (
            pieces.get(self.aliases.get(f"{self.head}.{name}".removeprefix("."), ""))
            for name in ("weight", "bias")
        )
        if weight is None:
            raise EngineError(
                "The network's last linear layer is not trained, so it predicts nothing."
            )
        return weight, bias

    def logits(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Compute f(x; θ), (B, classes)."""
        # Cloned: modules may change their buffers.
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with _differentiable():
            return torch.func.functional_call(self.module, (self.split(params), buffers), (x,))

    def losses(self, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute ℓ(z_i; θ), (B,)."""
        return functional.cross_entropy(self.logits(params, x), y, reduction="none")

    def features(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Compute the last linear layer's inputs, (B, D)."""
        if self.head is None:
            raise EngineError(
                "The network has no linear layer, so no layer's input can serve as features."
            )
        inputs_seen: list[torch.Tensor] = []
        hook = self.module.get_submodule(self.head).register_forward_hook(
            lambda _module, inputs, _output: inputs_seen.append(inputs[0])
        )
        try:
            self.logits(params, x)
        finally:
            hook.remove()
        return inputs_seen[0]

    def to_float64(self) -> "Network":
        return Network(copy.deepcopy(self.module).double(), self.trained)

    def images_per_pass(self, shape: tuple[int, ...], kind: str) -> int:
        """Return the number of images in a pass.

        Args:
            shape: (C, H, W).
            kind: "logits", "products" (⟨v, ∇ℓ⟩), "gradient" or "fused".
        """
        if shape not in self._measured:
            self._measured[shape] = self._activations(shape)
        held, largest = self._measured[shape]
        all_times, largest_times = _HELD[kind]
        times = GPU_TIMES if self.device.type == "cuda" else 1
        room = times * (FUSED_BYTES if kind == "fused" else PASS_BYTES)
        return max(
            1, min(times * LARGEST_PASS, room // (all_times * held + largest_times * largest))
        )

    def _activations(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Bytes of one image's activations: all, and the largest."""
        params = self.initial
        x = torch.zeros(1, *shape, dtype=params.dtype, device=params.device)
        with torch.no_grad(), _ActivationSizes() as sizes:
            self.logits(params, x)
        return sizes.held + _bytes(x), sizes.largest


def _prepare(module: nn.Module) -> nn.Module:
    """Turn off in-place layers, dropout and batch statistics."""
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            # In-place layers overwrite what the JVP needs.
            part.inplace = False  # type: ignore[assignment]  # a bool
    return module.eval()


def last_linear(module: nn.Module) -> str | None:
    names = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and not _inside_attention(module, name)
    ]
    return names[-1] if names else None


def _inside_attention(module: nn.Module, name: str) -> bool:
    return "." in name and isinstance(
        module.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention
    )


@contextmanager
def _differentiable() -> Iterator[None]:
    """Use operations that have forward-mode and second derivatives."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), DifferentiableOperations():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _bytes(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


class _ActivationSizes(TorchDispatchMode):
    """Bytes that operations allocate: `held` in all, `largest` by one."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.largest = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: loading torch's compiler, only to skip it, takes three seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        input_storages = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        allocated = [
            leaf
            for leaf in tree_leaves(result)
            if isinstance(leaf, torch.Tensor)
            and leaf.untyped_storage().data_ptr() not in input_storages
        ]
        size = sum(map(_bytes, allocated))
        self.held += size
        self.largest = max(self.largest, size)
        return result
