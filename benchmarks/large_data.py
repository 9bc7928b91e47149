"""Memory of training an epoch and scoring it, by number of images.

    python -m benchmarks.large_data [--images 20000] [--full]

Made-up images of 32 × 32 × 3 in a memory map. Default: the small network on `--images` images, and
one layer on 100,000 and 400,000, for the memory per image; a million is extrapolated from these and
the replay's budget, and named so. --full: the small network on 1,000,000 images (hours).

Memory: anonymous pages; also with the map's pages, which the system can take back. The last line is
a JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from worker.engine import Images, Recipe, default_recipe, predict, register_network, score, train

SIDE, CHANNELS, CLASSES, VALIDATION = 32, 3, 10, 10_000
GOAL_BYTES, GOAL_IMAGES = 4 * 2**30, 1_000_000
# Bytes for replayed parameters.
BUDGET = 2**30
# Their difference gives the memory per image.
SIZES = (100_000, 400_000)
# Rows of pixels written; the rest is a sparse hole.
WRITTEN = 20_000


def one_layer(recipe: Recipe) -> nn.Module:
    """Make a fast network: averages of 8 × 8, and a linear layer."""
    return nn.Sequential(
        nn.AvgPool2d(8), nn.Flatten(), nn.Linear(CHANNELS * (SIDE // 8) ** 2, recipe.classes)
    )


class Watch:
    """Peak memory of this process: (anonymous, with file pages), in bytes."""

    def __init__(self) -> None:
        self.most = (0, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            now = self.now()
            self.most = (max(self.most[0], now[0]), max(self.most[1], now[1]))

    @staticmethod
    def now() -> tuple[int, int]:
        lines = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        anonymous, whole = (1024 * int(lines[name].split()[0]) for name in ("RssAnon", "VmRSS"))
        return anonymous, whole

    def end(self) -> tuple[int, int]:
        self._stop.set()
        self._thread.join()
        return self.most


def memory_map(path: Path, count: int) -> np.ndarray:
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, CHANNELS)
    )
    generator = np.random.default_rng(0)
    for start in range(0, min(count, WRITTEN), 1000):
        array[start : start + 1000] = generator.integers(
            0, 256, array[start : start + 1000].shape, dtype=np.uint8
        )
    array.flush()
    del array
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def measure(count: int, network: str) -> dict[str, float]:
    """Train, score and evaluate `count` images; returns the costs."""
    if network == "one_layer":
        register_network("one_layer", one_layer)
    with tempfile.TemporaryDirectory() as folder:
        pixels = memory_map(Path(folder) / "pixels.npy", count + VALIDATION)
        labels = np.random.default_rng(1).integers(0, CLASSES, len(pixels))
        rows = np.arange(len(pixels))
        images, validation = (
            Images(pixels, labels[part], rows[part], rows[part])
            for part in (rows[:count], rows[count:])
        )
        recipe = default_recipe(images, CLASSES, network=network, epochs=1, learning_rate=0.01)
        before = Watch.now()[0]
        watch, started = Watch(), time.perf_counter()
        training = train(recipe, images, validation, Path(folder) / "run", device="cpu")
        trained = time.perf_counter()
        scores = score(training, images, validation, "sgd_influence", memory_budget=BUDGET)
        scored = time.perf_counter()
        predict(training, images)
        anonymous, whole = watch.end()
    if not scores.exact or len(scores.values) != count:
        raise SystemExit("The scores are not what they should be.")
    return {
        "images": count,
        "anonymous_bytes": anonymous,
        "resident_bytes": whole,
        "before_bytes": before,
        "train_seconds": round(trained - started, 1),
        "score_seconds": round(scored - trained, 1),
    }


def measured(count: int, network: str) -> dict[str, float]:
    """Run `measure` in a fresh process."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.large_data",
        "--measure",
        network,
        "--images",
        str(count),
    ]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    print(
        f"{network:9s} {count:9,d} images: {found['anonymous_bytes'] / 2**20:7,.0f} MiB of its "
        f"own, {found['resident_bytes'] / 2**20:7,.0f} with the pages of the memory map; training "
        f"{found['train_seconds']:.0f} s, scoring {found['score_seconds']:.0f} s",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument(
        "--full", action="store_true", help="measure 1,000,000 images instead of extrapolating"
    )
    parser.add_argument("--measure", metavar="NETWORK", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.images, asked.measure)))
        return
    figures: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "goal_bytes": GOAL_BYTES,
    }
    if asked.full:
        figures["full"] = full = measured(GOAL_IMAGES, "mnist")
        figures |= {"extrapolated": False, "million_bytes": full["anonymous_bytes"]}
    else:
        small = measured(asked.images, "mnist")
        sizes = [measured(count, "one_layer") for count in SIZES]
        each = (sizes[1]["anonymous_bytes"] - sizes[0]["anonymous_bytes"]) / (SIZES[1] - SIZES[0])
        million = int(small["anonymous_bytes"] + each * (GOAL_IMAGES - asked.images) + BUDGET)
        hours = (
            (small["train_seconds"] + small["score_seconds"]) / asked.images * GOAL_IMAGES / 3600
        )
        print(f"An image more costs {each:.0f} bytes.")
        print(
            f"Extrapolated, not measured: 1,000,000 images take {million / 2**20:,.0f} MiB and "
            f"{hours:.1f} h."
        )
        figures |= {
            "small": small,
            "sizes": sizes,
            "bytes_an_image": round(each, 1),
            "extrapolated": True,
            "million_bytes": million,
        }
    # mypy does not know that this is an int.
    figures["within_goal"] = int(figures["million_bytes"]) <= GOAL_BYTES  # type: ignore[call-overload]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
