"""A network whose parameters are one flat vector, so that the retracing reads like the paper."""

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
from worker.engine.networks.torch_fixes import Plain

# Bytes that one pass over a part of a data set may take, and the fused pass over a part of a batch. Constants, because another part may
# round otherwise. On a processor small parts are the faster ones too: they stay in its caches.
PASS_BYTES, FUSED_BYTES = 2**27, 2**29
LARGEST_PASS = 256
# A GPU needs larger parts to be busy, and has the memory: this many times as much.
GPU_TIMES = 16
# What a pass holds for one image: multiples of (all its activations, the largest of them). A forward pass forgets as it goes, a backward
# pass needs all of them, a derivative in a direction doubles every tensor, and the fused pass does both.
_HELD = {"logits": (0, 4), "products": (0, 8), "gradient": (1, 4), "fused": (4, 8)}


class Network:
    """The network as a pure function of (P,) parameters and a batch; the module inside lends its structure and is never changed.

    trained: "all", or "head" for the last linear layer alone. The other parameters, and those that the module itself has frozen
    (`requires_grad=False`), are constants, and no part of (P,).
    """

    def __init__(self, module: nn.Module, trained: str = "all") -> None:
        self.module = _prepared(module)
        self.trained = trained
        self.head = last_linear(module)
        if trained == "head" and self.head is None:
            raise EngineError(
                "Only the last linear layer was to be trained, and the network has no linear layer; train all of it."
            )
        part = module if trained == "all" else module.get_submodule(str(self.head))
        # By identity, as a layer may share its parameters with another one, under whose name they stand.
        wanted = {id(p) for p in part.parameters() if p.requires_grad}
        chosen = [(name, p) for name, p in module.named_parameters() if id(p) in wanted]
        if not chosen:
            frozen = any(True for _ in part.parameters())
            raise EngineError(
                f"The network has no parameters to train{': all of them have requires_grad=False' if frozen else ''}; use one that has some."
            )
        for p in module.parameters():
            p.requires_grad_(id(p) in wanted)
        first: dict[int, str] = {}
        # Every name of a parameter → the one under which it stands in `names`, if it is trained.
        self.aliases = {
            name: first.setdefault(id(p), name)
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
        """D, the inputs of the last linear layer; 0 where there is none."""
        return self.module.get_submodule(self.head).in_features if self.head is not None else 0  # type: ignore[return-value]  # an nn.Linear's, an int

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    @property
    def initial(self) -> torch.Tensor:
        """The module's own parameters as one vector, (P,)."""
        own = dict(self.module.named_parameters())
        return torch.cat([own[name].detach().reshape(-1) for name in self.names])

    def split(self, params: torch.Tensor) -> dict[str, torch.Tensor]:
        """The flat vector (P,) as named views."""
        pieces = torch.split(params, self.sizes)
        return {
            name: piece.view(shape)
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def last_layer(self, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """W (classes, D) and b (classes,), if there is one, of the last linear layer in a vector like θ, (P,).

        Raises EngineError where that layer is not trained.
        """
        pieces = self.split(vector)
        weight, bias = (
            pieces.get(self.aliases.get(f"{self.head}.{name}".removeprefix("."), ""))
            for name in ("weight", "bias")
        )
        if weight is None:
            raise EngineError(
                "The network's last linear layer is not trained, so it foretells nothing."
            )
        return weight, bias

    def logits(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """f(x; θ), (B, classes)."""
        # Buffers are cloned: whatever a module does to them stays inside this call.
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        with _differentiable():
            return torch.func.functional_call(self.module, (self.split(params), buffers), (x,))

    def losses(self, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """ℓ(z_i; θ) of every image of a batch, (B,)."""
        return functional.cross_entropy(self.logits(params, x), y, reduction="none")

    def features(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What the last linear layer sees, (B, D)."""
        if self.head is None:
            raise EngineError(
                "The network has no linear layer, so there is no layer whose input could serve as features."
            )
        seen: list[torch.Tensor] = []
        hook = self.module.get_submodule(self.head).register_forward_hook(
            lambda _module, inputs, _output: seen.append(inputs[0])
        )
        try:
            self.logits(params, x)
        finally:
            hook.remove()
        return seen[0]

    def wide(self) -> "Network":
        """The same in float64."""
        return Network(copy.deepcopy(self.module).double(), self.trained)

    def images_a_pass(self, shape: tuple[int, ...], kind: str) -> int:
        """How many images of shape (C, H, W) one pass takes: "logits", "products" (⟨v, ∇ℓ⟩), "gradient" or "fused"."""
        if shape not in self._measured:
            self._measured[shape] = self._activations(shape)
        held, largest = self._measured[shape]
        every, peak = _HELD[kind]
        times = GPU_TIMES if self.device.type == "cuda" else 1
        room = times * (FUSED_BYTES if kind == "fused" else PASS_BYTES)
        return max(1, min(times * LARGEST_PASS, room // (every * held + peak * largest)))

    def _activations(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Bytes of one image's activations in all, and of the largest one."""
        params = self.initial
        x = torch.zeros(1, *shape, dtype=params.dtype, device=params.device)
        with torch.no_grad(), _Sizes() as sizes:
            self.logits(params, x)
        return sizes.held + _bytes(x), sizes.largest


def _prepared(module: nn.Module) -> nn.Module:
    """A module that can be differentiated twice and draws nothing: no in-place layers, no dropout, no statistics of the batch."""
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            # In-place layers overwrite what forward-mode differentiation still needs.
            part.inplace = False  # type: ignore[assignment]  # torch types every attribute of a module as a tensor or module
    # Evaluation mode turns dropout and stochastic depth off.
    return module.eval()


def last_linear(module: nn.Module) -> str | None:
    """Name of the last linear layer, whose output is taken for the logits."""
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
    """Attention from plain operations, as torch's fused kernels have neither a forward-mode nor a second derivative; and see `Plain`."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), Plain():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _bytes(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()


class _Sizes(TorchDispatchMode):
    """Adds up the bytes of what operations make: `held` in all, `largest` of one."""

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        }
        # Views share their input's storage and cost nothing.
        made = [
            leaf
            for leaf in tree_leaves(result)
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in known
        ]
        size = sum(map(_bytes, made))
        self.held += size
        self.largest = max(self.largest, size)
        return result
