"""The first paper's 200-image experiment: estimates against true leave-one-out.

    python -m benchmarks.table1 [--seeds 30] [--jobs 2]
        [--settings mnist_logreg adult_logreg mnist_network adult_network]
        [--estimates sgd_influence marginal_influence …]

MNIST's ones against sevens, and Adult's income; logistic regression, and two hidden layers of eight
units. A seed draws 200 training and 200 validation rows, initial parameters and order. Truth: each
row's counterfactual run (same divisor, order, start), vectorised in float64; `leave_out` repeats a
few. 30 seeds: a quarter of an hour on two cores.

As in the paper: standardised features, learning rate 0.1 (for logistic regression falling as 1/√t),
L2 by five-fold cross-validation there and 0.001 for the network. Unlike it: a row that leaves keeps
its share of L2, and features have 16 bits (two pixels).

Source: Hara et al. 2019, section 7.1.
"""

import argparse
import functools
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from torch import nn
from torch.nn import functional

from benchmarks import _data
from worker.engine import Images, Recipe, Training, leave_out, register_network, score, train
from worker.engine.images import augmented_batch, draw_batches, unaugmented_batch
from worker.engine.networks.registry import build
from worker.engine.optimizers import initial_state, optimizer

COUNT, TAIL = 200, 10
# Rows at each end that `leave_out` repeats.
CHECKED = 2


@dataclass(frozen=True)
class Setting:
    """A column of the paper's table.

    hidden: units of the hidden layers. decay: the factor of ½ θ²; None for cross-validation.
    """

    dataset: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    schedule: str
    decay: float | None


SETTINGS = {
    "mnist_logreg": Setting("mnist", (), 5, 5, "inverse_root", None),
    "adult_logreg": Setting("adult", (), 20, 5, "inverse_root", None),
    "mnist_network": Setting("mnist", (8, 8), 10, 20, "constant", 0.001),
    "adult_network": Setting("adult", (8, 8), 10, 20, "constant", 0.001),
}
# Means over 100 runs: (Kendall's tau, Jaccard's index), None if unpublished.
PAPER = {
    "mnist_logreg": {"sgd_influence": (0.95, None), "influence_function": (0.70, None)},
    "adult_logreg": {"sgd_influence": (0.93, None), "influence_function": (0.85, None)},
    "mnist_network": {"sgd_influence": (0.45, 0.37), "influence_function": (0.27, None)},
    "adult_network": {
        "sgd_influence": (0.75, 0.59),
        "no_hessian": (0.60, 0.40),
        "influence_function": (0.54, 0.32),
    },
}
# Such damping leaves almost no Hessian. The paper's code takes λ = 1 for the networks'
# influence function, L2 alone for logistic regression.
ESTIMATES: dict[str, tuple[str, dict[str, float]]] = {
    "sgd_influence": ("sgd_influence", {}),
    "marginal_influence": ("marginal_influence", {}),
    "final_params": ("final_params", {}),
    "influence_function": ("influence_function", {}),
    "influence_function, λ = 0.01": ("influence_function", {"ridge": 0.01}),
    "influence_function, λ = 1": ("influence_function", {"ridge": 1.0}),
    "published_code": ("published_code", {}),
    "no_hessian": ("sgd_influence", {"damping": 1e-9}),
}


class Table(nn.Module):
    """Fully connected layers on D features of 16 bits (two pixels); one logit."""

    def __init__(self, low: np.ndarray, step: np.ndarray, hidden: tuple[int, ...]) -> None:
        super().__init__()
        for name, values in (("low", low), ("step", step)):
            self.register_buffer(name, torch.from_numpy(values).float())
        sizes = [len(low), *hidden, 1]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Pixels divided by 255: (B, 1, 2, D), high byte first.
        features = self.low + self.step * 255 * (256 * x[:, 0, 0] + x[:, 0, 1])
        odds = self.layers(features)
        # Cross entropy of (0, z) is the logistic loss of z.
        return torch.cat([torch.zeros_like(odds), odds], 1)


def rows(dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all features (M, D) float64 and labels (M,) 0 or 1."""
    if dataset == "adult":
        return _data.adult()
    pixels, labels = _data.mnist()
    chosen = np.flatnonzero((labels == 1) | (labels == 7))
    return pixels[chosen].reshape(len(chosen), -1) / 255.0, (labels[chosen] == 7).astype(np.int64)


def draw(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training, then validation rows: features (400, D), labels (400,)."""
    chosen = np.random.default_rng(seed).permutation(len(features))[: 2 * COUNT]
    inside = features[chosen[:COUNT]]
    deviation = inside.std(0)
    return (features[chosen] - inside.mean(0)) / np.where(deviation > 0, deviation, 1.0), labels[
        chosen
    ]


def as_images(features: np.ndarray, labels: np.ndarray) -> tuple[Images, np.ndarray, np.ndarray]:
    """Encode rows as images of 2 × D pixels; also returns each feature's low and step."""
    low = features.min(0)
    step = np.maximum(np.ptp(features, axis=0), 1e-6) / 65_535
    levels = np.rint((features - low) / step).astype(np.uint16)
    pixels = np.stack([levels >> 8, levels & 255], 1).astype(np.uint8)[..., None]
    return Images(pixels, labels, np.arange(len(labels))), low, step


def chosen_decay(features: np.ndarray, labels: np.ndarray) -> float:
    """Choose L2 by five-fold accuracy, as a factor of ½ θ²."""
    strengths = np.logspace(-4, 4, 10)
    models = [
        LogisticRegression(C=strength, fit_intercept=False, max_iter=1000) for strength in strengths
    ]
    best = strengths[
        int(np.argmax([cross_val_score(model, features, labels, cv=5).mean() for model in models]))
    ]
    return float(1 / (best * len(labels)))


def prepared(
    name: str, features: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[Recipe, Images, Images]:
    setting = SETTINGS[name]
    drawn, drawn_labels = draw(features, labels, seed)
    everything, low, step = as_images(drawn, drawn_labels)
    register_network(name, lambda _recipe: Table(low, step, setting.hidden))
    decay = (
        chosen_decay(drawn[:COUNT], drawn_labels[:COUNT])
        if setting.decay is None
        else setting.decay
    )
    recipe = Recipe(
        name,
        classes=2,
        channels=1,
        height=2,
        width=len(low),
        mean=(0.0,),
        std=(1.0,),
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=0.1,
        schedule=setting.schedule,
        weight_decay=decay,
        seed=seed,
    )
    return (
        recipe,
        everything.subset(np.arange(COUNT)),
        everything.subset(np.arange(COUNT, 2 * COUNT)),
    )


def leave_each_out(recipe: Recipe, images: Images, validation: Images) -> np.ndarray:
    """Return the change of validation loss without each image, (N,).

    N + 1 parallel runs, the last with all images.
    """
    network, initial = build(recipe, torch.float64)
    update, count = optimizer(recipe), len(images)
    thetas = initial.expand(count + 1, -1).clone()  # (N + 1, P)
    state = initial_state(recipe, thetas)
    total = recipe.epochs * recipe.steps_per_epoch(count)

    def mean_loss(
        theta: torch.Tensor, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        return (network.losses(theta, x, y) * weights).mean()

    gradients = torch.func.vmap(torch.func.grad(mean_loss), in_dims=(0, 0, None, None))
    order = [
        (epoch, positions)
        for epoch in range(recipe.epochs)
        for positions in draw_batches(recipe, images, epoch)
    ]
    for t, (epoch, positions) in enumerate(order):
        x, y = augmented_batch(recipe, images, positions, epoch, torch.float64)
        weights = torch.ones(count + 1, len(positions), dtype=torch.float64)
        weights[positions, np.arange(len(positions))] = 0.0
        with torch.no_grad():
            thetas, state = update(
                thetas, state, gradients(thetas, weights, x, y), recipe.rate(t, total)
            )
    x, y = unaugmented_batch(recipe, validation, np.arange(len(validation)), torch.float64)
    with torch.no_grad():
        logits = torch.func.vmap(network.logits, in_dims=(0, None))(thetas, x)
    losses = torch.stack([functional.cross_entropy(one, y) for one in logits])
    return (losses[:-1] - losses[-1]).numpy()


def agreement(truth: np.ndarray, estimate: np.ndarray) -> tuple[float, float]:
    """Return Kendall's tau, and Jaccard's index of the extremes."""
    ends = [
        set(np.r_[order[:TAIL], order[-TAIL:]].tolist())
        for order in (np.argsort(truth), np.argsort(estimate))
    ]
    return float(kendalltau(truth, estimate).statistic), len(ends[0] & ends[1]) / len(
        ends[0] | ends[1]
    )


def one_seed(
    name: str, estimates: Sequence[str], features: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, tuple[float, float]]:
    """Return each estimate's agreement; seed 0 adds "check"."""
    recipe, images, validation = prepared(name, features, labels, seed)
    truth = leave_each_out(recipe, images, validation)
    with tempfile.TemporaryDirectory() as folder:
        # Six retracings: stored steps need no replay, with the same bits.
        training = train(
            recipe, images, None, Path(folder) / "run", store="every_step", device="cpu"
        )
        found = {
            label: agreement(
                truth,
                score(training, images, validation, method, span="all_epochs", **options).values,
            )  # type: ignore[arg-type]  # options are floats
            for label, (method, options) in ((label, ESTIMATES[label]) for label in estimates)
        }
        if seed == 0:
            found["check"] = (
                largest_difference(training, images, validation, truth, Path(folder)),
            ) * 2
    return found


def largest_difference(
    training: Training, images: Images, validation: Images, truth: np.ndarray, folder: Path
) -> float:
    """Return the relative error of `leave_out` for the extreme images."""
    chosen = np.argsort(truth)[[*range(CHECKED), *range(-CHECKED, 0)]]
    measured = [
        leave_out(
            training, images, validation, np.array([place]), folder / str(place)
        ).measured_change
        for place in chosen
    ]
    return float(np.max(np.abs(np.array(measured) / truth[chosen] - 1)))


def measure(name: str, estimates: Sequence[str], seeds: int, jobs: int) -> dict[str, object]:
    """Return means and deviations over seeds, the paper's, and the check."""
    features, labels = rows(SETTINGS[name].dataset)
    started = time.perf_counter()
    with _data.workers(jobs) as pool:
        found = pool.map(
            functools.partial(one_seed, name, estimates, features, labels),
            range(seeds),
            chunksize=1,
        )
    figures: dict[str, object] = {
        label: {
            key: [
                round(float(statistic([one[label][place] for one in found])), 3)
                for statistic in (np.mean, np.std)
            ]
            for place, key in enumerate(("tau", "jaccard"))
        }
        for label in estimates
    }
    return figures | {
        "paper": PAPER[name],
        "leave_out_differs": found[0]["check"][0],
        "seconds": round(time.perf_counter() - started),
    }


def report(name: str, found: dict) -> str:

    def cell(label: str, key: str) -> str:
        return f"{found[label][key][0]:.3f} ± {found[label][key][1]:.3f}"

    def theirs(label: str, place: int) -> str:
        value = PAPER[name].get(label, (None, None))[place]
        return "" if value is None else f"{value:.2f}"

    lines = [
        (label, cell(label, "tau"), theirs(label, 0), cell(label, "jaccard"), theirs(label, 1))
        for label in ESTIMATES
        if label in found
    ]
    header = (name, "Kendall's tau", "the paper's", "Jaccard, 10 + 10", "the paper's")
    check = (
        f"`leave_out` differs from the vectorised runs by at most {found['leave_out_differs']:.1e} "
        "of the change."
    )
    return f"{_data.table(header, lines)}\n\n{check}\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=_data.CORES)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--estimates", nargs="+", choices=ESTIMATES, default=list(ESTIMATES))
    asked = parser.parse_args()
    figures: dict[str, object] = {"seeds": asked.seeds}
    for name in asked.settings:
        found = measure(name, asked.estimates, asked.seeds, asked.jobs)
        print(report(name, found), flush=True)
        figures[name] = found
    _data.end(figures)


if __name__ == "__main__":
    main()
