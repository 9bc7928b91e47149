"""Data, tables and intervals that the benchmarks share.

Real data is in WINNOW_REAL_DATA (default ../shared/data): `mnist/*-ubyte.gz`, `cifar10.zip`,
`adult/*.csv.gz`.
"""

import csv
import gzip
import io
import json
import multiprocessing
import multiprocessing.pool
import os
import platform
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import stats

from worker.engine import Images, Recipe, default_recipe

CLASSES = 10
CORES = os.cpu_count() or 1
# Adult's numeric columns; the first paper takes the logarithm of "weight".
_NUMBERS = {"age": 0, "weight": 2, "education": 4, "gain": 10, "loss": 11, "hours": 12}
_WORDS = {
    "workclass": 1,
    "degree": 3,
    "marital": 5,
    "occupation": 6,
    "relationship": 7,
    "race": 8,
    "sex": 9,
    "country": 13,
}
_INCOME = 14
# Words that the first paper merges; countries become their region.
_SAME = {
    "workclass": {"?": "none", "Without-pay": "none", "Never-worked": "none"},
    "degree": dict.fromkeys(
        ("1st-4th", "5th-6th", "7th-8th", "9th", "10th", "11th", "12th"), "below"
    ),
    "marital": {"Married-AF-spouse": "Married-civ-spouse"},
    "occupation": {"?": "none", "Armed-Forces": "none"},
    "country": dict.fromkeys(("United-States", "Cuba", "?"), "north")
    | dict.fromkeys(
        ("England", "Germany", "Canada", "Italy", "France", "Greece", "Philippines"), "west"
    )
    | dict.fromkeys(
        ("India", "Iran", "Cambodia", "Taiwan", "Japan", "Yugoslavia", "China", "Hong"), "east"
    )
    | dict.fromkeys(
        ("South", "Poland", "Ireland", "Hungary", "Scotland", "Thailand", "Ecuador"), "other"
    ),
}


def real_data() -> Path:
    """Return the folder of real data, or exit with a sentence."""
    folder = Path(os.environ.get("WINNOW_REAL_DATA", "../shared/data"))
    if not folder.is_dir():
        sys.exit(
            f"There is no folder {folder}. Set WINNOW_REAL_DATA to the one with mnist/, "
            "cifar10.zip and adult/."
        )
    return folder


def mnist(part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST's "train" or "t10k": images (N, 28, 28, 1) uint8 and labels (N,)."""
    folder = real_data() / "mnist"
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), dtype=np.uint8, offset=8).astype(np.int64)
    return pixels, labels


def cifar10(part: str, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR-10's "train" or "test" images at `positions`, sorted by name.

    Returns (n, 32, 32, 3) uint8 and labels (n,).
    """
    with zipfile.ZipFile(real_data() / "cifar10.zip") as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.startswith(f"{part}/") and name.endswith(".jpg")
        )
        classes = sorted({name.split("/")[1] for name in names})
        pixels = np.empty((len(positions), 32, 32, 3), dtype=np.uint8)
        for row, position in enumerate(positions):
            pixels[row] = np.asarray(
                Image.open(io.BytesIO(archive.read(names[position]))).convert("RGB")
            )
    return pixels, np.array(
        [classes.index(names[position].split("/")[1]) for position in positions], dtype=np.int64
    )


def adult() -> tuple[np.ndarray, np.ndarray]:
    """Read Adult's training and test rows.

    Returns features (48,842, D) float64, and 1 for a high income, (48,842,).
    """
    lines: list[list[str]] = []
    for part in ("training", "test"):
        with gzip.open(real_data() / "adult" / f"adult-{part}.csv.gz", "rt") as file:
            lines += [
                line for line in csv.reader(file, skipinitialspace=True) if len(line) == _INCOME + 1
            ]
    columns = [np.array([float(line[place]) for line in lines]) for place in _NUMBERS.values()]
    columns[list(_NUMBERS).index("weight")] = np.log1p(columns[list(_NUMBERS).index("weight")])
    for name, place in _WORDS.items():
        same = _SAME.get(name, {})
        # Other countries are the paper's remaining region.
        words = np.array(
            [same.get(line[place], "south" if name == "country" else line[place]) for line in lines]
        )
        columns += [(words == word).astype(float) for word in np.unique(words)]
    return np.stack(columns, 1), np.array(
        [line[_INCOME].startswith(">50K") for line in lines], dtype=np.int64
    )


def subset(dataset: str, counts: Mapping[str, int], seed: int) -> dict[str, Images]:
    """Draw disjoint "train", "validation" and "test" images of MNIST or CIFAR-10.

    Only "test" is from the published test part.
    """
    draw = np.random.default_rng(seed)
    inner = [name for name in counts if name != "test"]
    places = draw.permutation(60_000 if dataset == "mnist" else 50_000)[
        : sum(counts[name] for name in inner)
    ]
    chosen = dict(
        zip(inner, np.split(places, np.cumsum([counts[name] for name in inner])[:-1]), strict=True)
    )
    if "test" in counts:
        chosen["test"] = draw.permutation(10_000)[: counts["test"]]
    return {name: _images(dataset, name == "test", positions) for name, positions in chosen.items()}


def _images(dataset: str, testing: bool, positions: np.ndarray) -> Images:
    # Both parts need different ids: draws depend on them.
    ids = positions + (100_000 if testing else 0)
    if dataset == "mnist":
        pixels, labels = mnist("t10k" if testing else "train")
        return Images(pixels[positions], labels[positions], ids)
    return Images(*cifar10("test" if testing else "train", positions), ids)


def with_flips(
    images: Images, share: float, kind: str, seed: int, classes: int = CLASSES
) -> tuple[Images, np.ndarray]:
    """Make round(share · N) labels wrong; returns the images and which, (N,) bool.

    kind: "symmetric" for any other class, "class_dependent" for the next class.
    """
    draw = np.random.default_rng(seed)
    wrong = np.zeros(len(images), dtype=bool)
    wrong[draw.permutation(len(images))[: round(share * len(images))]] = True
    moves = (
        draw.integers(1, classes, len(images))
        if kind == "symmetric"
        else np.ones(len(images), dtype=np.int64)
    )
    labels = np.where(wrong, (images.labels + moves) % classes, images.labels)
    return Images(images.pixels, labels, images.ids, images.rows), wrong


def recipe_for(images: Images, seed: int, epochs: int, **settings: object) -> Recipe:
    return default_recipe(images, CLASSES, seed=seed, epochs=epochs, **settings)


def workers(jobs: int) -> multiprocessing.pool.Pool:
    """Start single-threaded processes, the fastest for small networks."""
    real_data()  # else the pool would restart failing processes forever
    return multiprocessing.get_context("spawn").Pool(jobs, torch.set_num_threads, (1,))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half its 95 % interval (Student's t)."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), 0.0
    return float(np.mean(values)), float(
        stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def end(figures: Mapping[str, object]) -> None:
    """Print figures and machine as the last line."""
    machine = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": CORES,
    }
    print(json.dumps({**figures, **machine}))
