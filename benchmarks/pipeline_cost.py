"""The cost of exact last-epoch SGD-influence: (train + score) over train, and bytes.

    python -m benchmarks.pipeline_cost [--images 10000] [--epochs 5] [--repeats 3]

Reads `mnist` in WINNOW_REAL_DATA (default ../shared/data), or uses random pixels of that shape, at
the same cost. The last line is a JSON object. Goal: at most 1 + 4/epochs.
"""

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from worker.engine import Images, Training, default_recipe, score, stored_bytes, train

VALIDATION = 1000


def mnist(count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the first `count` training images, labels, and their source."""
    folder = Path(os.environ.get("WINNOW_REAL_DATA", "../shared/data")) / "mnist"
    if not folder.is_dir():
        generator = np.random.default_rng(0)
        return (
            generator.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8),
            generator.integers(0, 10, count),
            "random pixels",
        )
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * 784), dtype=np.uint8, offset=16).reshape(
            count, 28, 28, 1
        )
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), dtype=np.uint8, offset=8).astype(np.int64)
    return pixels, labels, "mnist"


def measure(images: Images, validation: Images, epochs: int, folder: Path) -> dict[str, float]:
    recipe = default_recipe(images, 10, epochs=epochs)
    started = time.perf_counter()
    training: Training = train(recipe, images, validation, folder)
    trained = time.perf_counter()
    scores = score(training, images, validation, "sgd_influence", span="last_epoch")
    scored = time.perf_counter()
    if not scores.exact:
        raise SystemExit("The scores are not exact; this benchmark measures exact ones.")
    return {
        "train": trained - started,
        "score": scored - trained,
        "bytes": stored_bytes(folder),
        "params": training.params.numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    pixels, labels, source = mnist(asked.images + VALIDATION)
    ids = np.arange(len(labels))
    everything = Images(pixels, labels, ids)
    images, validation = (
        everything.subset(ids[: asked.images]),
        everything.subset(ids[asked.images :]),
    )
    rounds = []
    for repeat in range(asked.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(images, validation, asked.epochs, Path(folder)))
        ratio = 1 + rounds[-1]["score"] / rounds[-1]["train"]
        print(
            f"round {repeat + 1}: train {rounds[-1]['train']:.2f} s, score "
            f"{rounds[-1]['score']:.2f} s, ratio {ratio:.3f}"
        )
    ratios = [1 + found["score"] / found["train"] for found in rounds]
    first, steps = rounds[0], -(-asked.images // 64)
    figures = {
        "data": source,
        "images": asked.images,
        "epochs": asked.epochs,
        "threads": torch.get_num_threads(),
        "train_seconds": round(statistics.median(found["train"] for found in rounds), 2),
        "score_seconds": round(statistics.median(found["score"] for found in rounds), 2),
        "ratio": round(statistics.median(ratios), 3),
        "goal": 1 + 4 / asked.epochs,
        "stored_bytes": first["bytes"],
        # As if every step's parameters were stored.
        "every_step_last_epoch_bytes": steps * int(first["params"]) * 4,
        "every_step_all_epochs_bytes": asked.epochs * steps * int(first["params"]) * 4,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
