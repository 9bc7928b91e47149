"""The fused pass against a training step (forward and backward) of the same batch.

    python -m benchmarks.fused_step [--repeats 15] [--networks mnist cifar resnet18]

Variants are timed in turn and compared by medians, so load slows all alike. The last line is JSON:
{network: {"fused_over_step": …, "loop_over_step": …, "vmap_over_step": …, …}}.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from worker.engine import Recipe
from worker.engine.derivatives.passes import fused_pass, mean_gradient_of
from worker.engine.networks.registry import Network, build

# name: (channels, side, batch); ResNet-18's slow variants need a smaller batch.
SHAPES = {"mnist": (1, 28, 64), "cifar": (3, 32, 64), "resnet18": (3, 32, 16)}
# Goals for fused over step.
GOALS = {"mnist": 2.4, "cifar": 2.4, "resnet18": 2.9}


def variants(name: str) -> tuple[dict[str, Callable[[], object]], int]:
    """Return the computations by name, and the batch size."""
    channels, side, batch = SHAPES[name]
    mean, std = (0.5,) * channels, (0.25,) * channels
    network, params = build(
        Recipe(name, classes=10, channels=channels, height=side, width=side, mean=mean, std=std)
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, side, side, generator=generator)
    y = torch.randint(10, (batch,), generator=generator)
    direction = torch.randn(params.shape, generator=generator)
    return {
        "step": lambda: training_step(network, params, x, y),
        "fused": lambda: fused_pass(network, params, direction, x, y),
        "loop": lambda: [
            mean_gradient_of(network, params, x[i : i + 1], y[i : i + 1]) @ direction
            for i in range(batch)
        ],
        "vmap": lambda: per_image_gradients(network, params, x, y) @ direction,
    }, batch


def training_step(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Compute the gradient (P,) of the batch's mean loss."""
    theta = params.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.losses(theta, x, y).mean(), theta)
    return gradient


def per_image_gradients(
    network: Network, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Compute every image's own gradient, (B, P)."""

    def loss(theta: torch.Tensor, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return network.losses(theta, image[None], label[None])[0]

    gradients: torch.Tensor = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        params, x, y
    )
    return gradients


def measure(name: str, repeats: int) -> dict[str, float]:
    """Return each variant's median seconds, and ratios to the step."""
    computations, batch = variants(name)
    seconds: dict[str, list[float]] = {label: [] for label in computations}
    for repeat in range(repeats + 1):
        for label, compute in computations.items():
            # The slow variants need few rounds.
            if label in ("loop", "vmap") and repeat > 3:
                continue
            started = time.perf_counter()
            compute()
            if repeat:  # the first round warms up
                seconds[label].append(time.perf_counter() - started)
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    ratios = {
        f"{label}_over_step": round(medians[label] / medians["step"], 2)
        for label in ("fused", "loop", "vmap")
    }
    return {
        "batch": batch,
        "step_ms": round(medians["step"] * 1000, 2),
        **ratios,
        "goal": GOALS[name],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=list(SHAPES))
    asked = parser.parse_args()
    figures: dict[str, object] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    for name in asked.networks:
        figures[name] = found = measure(name, asked.repeats)
        print(f"{name:9s} step {found['step_ms']:8.2f} ms   fused ×{found['fused_over_step']:.2f} "
            f"(goal {found['goal']})   loop ×{found['loop_over_step']:.2f}   vmap "
            f"×{found['vmap_over_step']:.2f}")  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
