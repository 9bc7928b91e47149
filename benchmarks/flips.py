"""Detection of wrong labels by every method, and by averages over three runs.

    python -m benchmarks.flips [--dataset mnist|cifar10] [--images 2000] [--epochs 10]
        [--shares 0.05 0.1 0.2 0.4] [--kinds symmetric class_dependent] [--seeds 1] [--jobs 2]
        [--device cpu|cuda]

Flips to any other class (symmetric) or the next (class-dependent); scores of the last epoch.
Measures: area under ROC, average precision, precision at the number of flips (chance: 0.5, the
share, the share). Default: ten minutes on two cores. CIFAR-10 costs twenty times as much an image:
`--dataset cifar10 --images 1000 --epochs 6 --shares 0.1 0.4`.
"""

import argparse
import functools
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import _data
from worker.engine import METHODS, Images, devices, ensemble, score, train

KINDS = ("symmetric", "class_dependent")
SHARES = (0.05, 0.1, 0.2, 0.4)
VALIDATION = 1000
ENSEMBLES, RUNS = ("sgd_influence", "marginal_influence", "margin"), 3
MEASURES = ("roc", "precision", "at_flips")
TITLES = {
    "roc": "Area under ROC",
    "precision": "Average precision",
    "at_flips": "Precision at the number of flips",
}


def found_by(values: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Measure how well low values (N,) find wrong labels (N,) bool."""
    first = np.argsort(values, kind="stable")[: int(wrong.sum())]
    return {
        "roc": float(roc_auc_score(wrong, -values)),
        "precision": float(average_precision_score(wrong, -values)),
        "at_flips": float(wrong[first].mean()),
    }


def scored(
    images: Images, validation: Images, seed: int, epochs: int, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Return each method's values (N,) on the first run, and averages."""
    with tempfile.TemporaryDirectory() as folder:
        recipes = [_data.recipe_for(images, RUNS * seed + run, epochs) for run in range(RUNS)]
        runs = [
            train(recipe, images, None, Path(folder) / str(run), device=device)
            for run, recipe in enumerate(recipes)
        ]
        single = {method: score(runs[0], images, validation, method) for method in METHODS}
        averages = {
            method: ensemble(
                [single[method], *(score(run, images, validation, method) for run in runs[1:])]
            )
            for method in ENSEMBLES
        }
    return {name: one.values for name, one in single.items()} | {
        f"{name} × {RUNS}": one.values for name, one in averages.items()
    }


def measure(
    dataset: str, count: int, epochs: int, device: str, case: tuple[str, float, int]
) -> dict[str, dict[str, float]]:
    """Measure every method in a case: (kind, share, seed)."""
    kind, share, seed = case
    parts = _data.subset(dataset, {"train": count, "validation": VALIDATION}, seed)
    images, wrong = _data.with_flips(parts["train"], share, kind, seed)
    return {
        name: found_by(values, wrong)
        for name, values in scored(images, parts["validation"], seed, epochs, device).items()
    }


def mean_of(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(float(np.mean([one[name][key] for one in found])), 3) for key in MEASURES}
        for name in found[0]
    }


def report(figures: dict[str, dict[str, dict[str, float]]], key: str) -> str:
    methods = next(iter(figures.values()))
    lines = [(name, *(f"{found[name][key]:.3f}" for found in figures.values())) for name in methods]
    return _data.table((TITLES[key], *figures), lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=_data.CORES)
    parser.add_argument("--device", choices=devices.DEVICES, default="cpu")
    asked = parser.parse_args()
    cases = [*itertools.product(asked.kinds, asked.shares, range(asked.seeds))]
    started = time.perf_counter()
    with _data.workers(asked.jobs) as pool:
        found = pool.map(
            functools.partial(measure, asked.dataset, asked.images, asked.epochs, asked.device),
            cases,
            chunksize=1,
        )
    figures = {
        f"{kind} {share:.0%}": mean_of(
            [one for case, one in zip(cases, found, strict=True) if case[:2] == (kind, share)]
        )
        for kind, share in itertools.product(asked.kinds, asked.shares)
    }
    for key in MEASURES:
        print(f"{report(figures, key)}\n", flush=True)
    seconds = round(time.perf_counter() - started)
    _data.end(
        {
            "dataset": asked.dataset,
            "images": asked.images,
            "epochs": asked.epochs,
            "seeds": asked.seeds,
            "seconds": seconds,
            **figures,
        }
    )


if __name__ == "__main__":
    main()
