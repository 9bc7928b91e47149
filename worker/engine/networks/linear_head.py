"""The linear head: softmax regression on features (docs/method.md, section 11)."""

import copy

import torch
from torch import nn
from torch.nn import functional

from worker.engine.networks.flat_network import PASS_BYTES, Network
from worker.engine.recipe import Recipe

LARGEST_PASS = 4096


def build(recipe: Recipe) -> nn.Module:
    """Make W = 0, (classes, D + 1): the loss is convex, so the start needs no chance."""
    linear = nn.Linear(recipe.channels + 1, recipe.classes, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


class LinearHead(Network):
    """Logits W x of features x (B, D + 1) whose last is 1; θ is W (classes, D + 1), flattened.

    derivatives/head.py has its derivatives in closed form.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.classes, self.inputs = self.shapes[0]

    def weight(self, params: torch.Tensor) -> torch.Tensor:
        """View θ (…, P) as W (…, classes, D + 1)."""
        return params.view(*params.shape[:-1], self.classes, self.inputs)

    def logits(self, params: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight(params))

    def features(
        self,
        params: torch.Tensor,  # noqa: ARG002 - the network's interface
        x: torch.Tensor,
    ) -> torch.Tensor:
        return x

    def images_per_pass(
        self,
        shape: tuple[int, ...],  # noqa: ARG002 - the network's interface
        kind: str,  # noqa: ARG002 - as above
    ) -> int:
        # Features twice, as float16 and standardised, and what a pass makes of the logits.
        room = PASS_BYTES // (4 * (2 * self.inputs + 16 * self.classes))
        return max(1, min(LARGEST_PASS, room))

    def to_float64(self) -> "LinearHead":
        return LinearHead(copy.deepcopy(self.module).double())
