"""Time of explaining an image, and recall of the quick preselection.

    python -m benchmarks.explain_image [--dataset mnist|cifar10] [--images 2000]
        [--validation 10000] [--epochs 6] [--explained 30] [--looked 96]

A tenth of the training labels is wrong, half of the explained. `explain` examines all validation
images, `explain_most` the last layer's choice and some spread evenly; compared with even spread
alone. Figures: seconds per image, recall of the four hurt most, their share of the change.
Goal: two seconds on two cores for 10,000 validation images.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _data
from worker.engine import (
    Images,
    Readout,
    Training,
    explain,
    explain_most,
    load_readout,
    read_out,
    train,
)

SHOWN, WRONG = 4, 0.1


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - clock, time.process_time() - processor


def found_of(changes: np.ndarray, looked: np.ndarray) -> tuple[float, float]:
    """Return recall of the images hurt most, and the found share of their change."""
    truly, found = np.argsort(changes)[:SHOWN], looked[np.argsort(changes[looked])[:SHOWN]]
    return len({*truly} & {*found}) / SHOWN, float(changes[found].sum() / changes[truly].sum())


def one(
    training: Training,
    images: Images,
    validation: Images,
    readout: Readout,
    position: int,
    looked: int,
) -> dict[str, float]:
    changes, _, all_cpu = timed(lambda: explain(training, images, validation, position))
    (places, _), seconds, cpu = timed(
        lambda: explain_most(training, images, validation, position, readout, count=looked)
    )
    even = np.linspace(0, len(validation) - 1, looked).astype(int)
    (recall, change), (even_recall, even_change) = (
        found_of(changes, places),
        found_of(changes, even),
    )
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "all_cpu_seconds": all_cpu,
        "found": recall,
        "change": change,
        "found_evenly": even_recall,
        "change_evenly": even_change,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--explained", type=int, default=30)
    parser.add_argument("--looked", type=int, default=96)
    asked = parser.parse_args()
    parts = _data.subset(asked.dataset, {"train": asked.images, "validation": asked.validation}, 0)
    images, wrong = _data.with_flips(parts["train"], WRONG, "symmetric", 0)
    validation = parts["validation"]
    right = np.flatnonzero(~wrong)[:: max(1, 2 * asked.images // asked.explained)]
    positions = [*np.flatnonzero(wrong)[: asked.explained // 2], *right[: asked.explained // 2]]
    with tempfile.TemporaryDirectory() as folder:
        training = train(
            _data.recipe_for(images, 0, asked.epochs),
            images,
            None,
            Path(folder) / "run",
            device="cpu",
        )
        readout, seconds, _ = timed(lambda: read_out(training, images, validation))
        readout.write(Path(folder) / "readout")
        size = (Path(folder) / "readout").stat().st_size
        _, loading, _ = timed(lambda: load_readout(Path(folder) / "readout", training, validation))
        rows = [
            one(training, images, validation, readout, int(position), asked.looked)
            for position in positions
        ]
    means = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
    print(_data.table(tuple(means), [tuple(str(value) for value in means.values())]), flush=True)
    least = round(min(row["change"] for row in rows), 3)
    read = {
        "read_out_seconds": round(seconds, 2),
        "read_out_bytes": size,
        "load_seconds": round(loading, 3),
        "least_change": least,
    }
    _data.end({**vars(asked), **means, **read})


if __name__ == "__main__":
    main()
