"""Speed against the first paper's published procedure: the same exact influence.

    python -m benchmarks.published_speed [--networks mnist cifar] [--images 5000 1280]
        [--epochs 2 2] [--repeats 3] [--threads 2]

Published: θ of every step is stored; scoring has a pass per image, and a backward pass through the
gradient for the Hessian–vector product. Here: θ once an epoch, replay, fused passes. Both must
agree, and read the same batches without the authors' slow data loading. Figures: medians of
wall-clock seconds and ratios, on an idle machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from benchmarks import _data
from benchmarks.storage import DATASETS, plain_sgd
from worker.engine import Images, Recipe, Training, score, train
from worker.engine.images import augmented_batch, draw_batches
from worker.engine.networks.registry import build
from worker.engine.scores.trust import validation_gradient
from worker.engine.trajectory.files import steps_file
from worker.engine.trajectory.step_store import StepsReader

VALIDATION = 500
# Relative to the largest value: float32 sums in another order, amplified.
TOLERANCE = 1e-2


def published(training: Training, images: Images, validation: Images) -> np.ndarray:
    """Compute influence over the last epoch, (N,), step by step, image by image."""
    recipe, epoch = training.recipe, training.recipe.epochs - 1
    network, _ = build(recipe)
    adjoint = [
        *network.split(validation_gradient(network, recipe, training.params, validation)).values()
    ]
    module = network.module.requires_grad_(True)
    params = [*module.parameters()]
    influence = np.zeros(len(images))
    stored = StepsReader(steps_file(training.folder, epoch), training.record.run)
    order = draw_batches(recipe, images, epoch)
    for t in reversed(range(len(order))):
        vector_to_parameters(stored.point(t)[0], params)
        x, y = augmented_batch(recipe, images, order[t], epoch, torch.float32)
        rate = recipe.rate(epoch * len(order) + t, recipe.epochs * len(order))
        for place, image in enumerate(order[t]):
            loss = functional.cross_entropy(module(x[place : place + 1]), y[place : place + 1])
            # I_i += (η/|S|) ⟨u, ∇ℓ(z_i; θ_t)⟩
            influence[image] += (
                rate / len(y) * inner(adjoint, torch.autograd.grad(loss, params)).item()
            )
        gradient = torch.autograd.grad(
            functional.cross_entropy(module(x), y), params, create_graph=True
        )
        # u ← u − η H u
        adjoint = [
            u - rate * hu
            for u, hu in zip(
                adjoint, torch.autograd.grad(inner(adjoint, gradient), params), strict=True
            )
        ]
    return influence


def inner(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def one_round(recipe: Recipe, images: Images, validation: Images, folder: Path) -> dict[str, float]:
    """Time training and scoring both ways; exits if they disagree."""
    seconds = {}
    values = []
    for name, store in (("published", "every_step"), ("ours", "epoch_starts")):
        started = time.perf_counter()
        training = train(recipe, images, None, folder / name, store=store, device="cpu")
        trained = time.perf_counter()
        values.append(
            published(training, images, validation)
            if name == "published"
            else score(training, images, validation).values
        )
        seconds |= {
            f"{name}_train": trained - started,
            f"{name}_score": time.perf_counter() - trained,
        }
    apart = float(np.abs(values[0] - values[1]).max() / np.abs(values[0]).max())
    if not apart < TOLERANCE:
        raise SystemExit(
            f"The two differ by {apart:.1e} of the largest value, so they did not do the same work."
        )
    return seconds | {"apart": apart}


def measure(name: str, count: int, epochs: int, repeats: int) -> dict[str, float]:
    parts = _data.subset(DATASETS[name], {"train": count, "validation": VALIDATION}, 0)
    recipe = plain_sgd(name, parts["train"], epochs)
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            one_round(recipe, parts["train"], parts["validation"], Path(folder) / str(repeat))
            for repeat in range(repeats)
        ]
    figures = {
        key: round(statistics.median(one[key] for one in rounds), 3)
        for key in rounds[0]
        if key != "apart"
    }
    whole = [
        (one["published_train"] + one["published_score"]) / (one["ours_train"] + one["ours_score"])
        for one in rounds
    ]
    return figures | {
        "score_ratio": round(
            statistics.median(one["published_score"] / one["ours_score"] for one in rounds), 2
        ),
        "whole_ratio": round(statistics.median(whole), 2),
        "apart": max(one["apart"] for one in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument(
        "--images", type=int, nargs="+", default=[5000, 1280], help="one number for each network"
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[2, 2], help="one number for each network"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if not len(asked.networks) == len(asked.images) == len(asked.epochs):
        parser.error("--images and --epochs need one number for each network.")
    torch.set_num_threads(asked.threads)
    figures: dict[str, object] = {}
    lines = []
    for name, count, epochs in zip(asked.networks, asked.images, asked.epochs, strict=True):
        figures[name] = found = measure(name, count, epochs, asked.repeats)
        timed = [
            f"{found[f'published_{part}']:.2f} / {found[f'ours_{part}']:.2f}"
            for part in ("train", "score")
        ]
        lines.append(
            (
                name,
                f"{count:,}",
                epochs,
                *timed,
                f"{found['score_ratio']:.1f}",
                f"{found['whole_ratio']:.1f}",
            )
        )
    header = (
        "network",
        "images",
        "epochs",
        "train, s (published / ours)",
        "score, s",
        "times faster: score",
        "train and score",
    )
    print(_data.table(header, lines))
    _data.end(figures)


if __name__ == "__main__":
    main()
