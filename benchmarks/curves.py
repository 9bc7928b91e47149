"""Cleansing curves: test error after removing the first images of each ranking.

    python -m benchmarks.curves [--dataset mnist|cifar10] [--images 1000] [--epochs 8]
        [--counts 10 30 100 300] [--flip 0] [--methods sgd_influence …] [--seeds 4] [--jobs 2]
        [--device cpu|cuda] [--picture FOLDER]

Retrained without the images: "last" epoch or "all" epochs (the papers' protocols: same start and
order), or "fresh" (another start and order). A seed draws images, start and order. Figures: mean
errors in percent, and paired changes with 95 % intervals (Student's t). Scores are of the last
epoch but `sgd_influence all_epochs`. --flip makes that share of training labels wrong;
--picture writes curves-<dataset>.svg.

Default: ten minutes on two cores. CIFAR-10 costs twenty times as much an image:
`--dataset cifar10 --images 500 --epochs 5 --seeds 2 --counts 30 100 --methods sgd_influence margin
random`.
The papers' size, for a GPU, with either data set:
`--images 50000 --epochs 20 --seeds 30 --counts 10 100 1000 5000 --jobs 1 --device cuda`.
"""

import argparse
import dataclasses
import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import _data, _picture
from worker.engine import METHODS, Images, Training, devices, evaluate, score, train
from worker.engine.images import draw_batches
from worker.engine.sweep import evaluate_params
from worker.engine.training.runner import make_runner
from worker.engine.trajectory.files import epoch_file, move_point, read_point

VALIDATION, TEST = 1000, 2000
WAYS = ("last", "all", "fresh")
WHOLE_RUN = "sgd_influence all_epochs"
# Far from the scored runs' seeds.
FRESH = 1_000


def ranking(training: Training, images: Images, validation: Images, name: str) -> np.ndarray:
    """Rank the images, first to remove first, (N,)."""
    method, _, span = name.partition(" ")
    return np.argsort(
        score(training, images, validation, method, span=span or "last_epoch").values, kind="stable"
    )


def last_epoch_without(
    training: Training, images: Images, removed: np.ndarray, test: Images
) -> float:
    """Repeat the last epoch without `removed`; returns test error in percent."""
    recipe, record = training.recipe, training.record
    device = devices.choose_device("auto", record.environment)
    run, _ = make_runner(recipe, images, np.isin(np.arange(len(images)), removed), device)
    epoch = recipe.epochs - 1
    point = move_point(read_point(epoch_file(training.folder, epoch), record.run), device)
    with devices.deterministic(device, int(record.environment["threads"])):
        for t, positions in enumerate(draw_batches(recipe, images, epoch)):
            point = run.advance(point, *run.batch(epoch, positions), positions, run.rate(epoch, t))[
                0
            ]
        return 100 - 100 * evaluate_params(run.network, recipe, point[0], test)[0]


def errors_without(
    training: Training, images: Images, removed: np.ndarray, test: Images
) -> dict[str, float]:
    """Return test error in percent, by way."""
    recipe, mask = training.recipe, np.isin(np.arange(len(images)), removed)
    device = training.record.environment["device"]
    fresh = dataclasses.replace(recipe, seed=recipe.seed + FRESH)
    with tempfile.TemporaryDirectory() as folder:
        again = train(
            recipe,
            images,
            None,
            Path(folder) / "all",
            leave_out=mask,
            store="final_params",
            device=device,
        )
        anew = train(
            fresh,
            images.subset(np.flatnonzero(~mask)),
            None,
            Path(folder) / "fresh",
            store="final_params",
            device=device,
        )
        accuracies = {"all": evaluate(again, test)[0], "fresh": evaluate(anew, test)[0]}
    return {"last": last_epoch_without(training, images, removed, test)} | {
        way: 100 - 100 * found for way, found in accuracies.items()
    }


def one_seed(asked: argparse.Namespace, seed: int) -> dict[str, dict[int, dict[str, float]]]:
    """Return errors by ranking, number removed and way."""
    parts = _data.subset(
        asked.dataset, {"train": asked.images, "validation": VALIDATION, "test": TEST}, seed
    )
    images, _ = _data.with_flips(parts["train"], asked.flip, "symmetric", seed)
    with tempfile.TemporaryDirectory() as folder:
        training = train(
            _data.recipe_for(images, seed, asked.epochs),
            images,
            None,
            Path(folder),
            device=asked.device,
        )
        nothing = errors_without(training, images, np.array([], dtype=np.int64), parts["test"])
        found = {}
        for name in asked.methods:
            order = ranking(training, images, parts["validation"], name)
            found[name] = {0: nothing} | {
                count: errors_without(training, images, order[:count], parts["test"])
                for count in asked.counts
            }
    return found


def summary(
    found: Sequence[dict[str, dict[int, dict[str, float]]]], counts: Sequence[int]
) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Return mean error, mean change and interval by way, ranking and number."""

    def figures(name: str, count: int, way: str) -> list[float]:
        changes = [one[name][count][way] - one[name][0][way] for one in found]
        return [
            round(value, 3)
            for value in (
                float(np.mean([one[name][count][way] for one in found])),
                *_data.interval(changes),
            )
        ]

    return {
        way: {
            name: {count: figures(name, count, way) for count in (0, *counts)} for name in found[0]
        }
        for way in WAYS
    }


def report(way: str, lines: dict[str, dict[int, list[float]]]) -> str:
    counts = [count for count in next(iter(lines.values())) if count]
    nothing = next(iter(lines.values()))[0][0]
    cells = [
        (name, *(f"{of[k][0]:.2f} ({of[k][1]:+.2f} ± {of[k][2]:.2f})" for k in counts))
        for name, of in lines.items()
    ]
    return _data.table((f"{way}; nothing removed: {nothing:.2f} %", *map(str, counts)), cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--flip", type=float, default=0.0)
    parser.add_argument(
        "--methods", nargs="+", choices=[WHOLE_RUN, *METHODS], default=[WHOLE_RUN, *METHODS]
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=_data.CORES)
    parser.add_argument("--device", choices=devices.DEVICES, default="cpu")
    parser.add_argument("--picture", type=Path, metavar="FOLDER")
    asked = parser.parse_args()
    started = time.perf_counter()
    with _data.workers(asked.jobs) as pool:
        found = pool.map(functools.partial(one_seed, asked), range(asked.seeds), chunksize=1)
    by_way = summary(found, asked.counts)
    for way, lines in by_way.items():
        print(f"{report(way, lines)}\n", flush=True)
    if asked.picture is not None:
        panels = {
            way: {name: [(k, of[k][0], of[k][2]) for k in of] for name, of in lines.items()}
            for way, lines in by_way.items()
        }
        _picture.curves(
            asked.picture / f"curves-{asked.dataset}.svg",
            panels,
            "images removed",
            "test error, %; bars: 95 % interval of its change",
        )
    settings = {
        name: getattr(asked, name) for name in ("dataset", "images", "epochs", "flip", "seeds")
    }
    _data.end({**settings, "seconds": round(time.perf_counter() - started), **by_way})


if __name__ == "__main__":
    main()
