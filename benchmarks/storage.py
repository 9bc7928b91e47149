"""Bytes and seconds of the four stores, and equality of their scores.

    python -m benchmarks.storage [--networks mnist cifar] [--images 4000 640] [--epochs 5 2]

Scores: `sgd_influence`, last epoch and all; exact stores must agree bit for bit. `final_params` has
its own method, compared by rank correlation. "Parameters": bytes of θ's; "all" adds record and
signals. The ratio at the first paper's size is computed, not measured.
Default: three minutes on two cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks import _data
from worker.engine import SPANS, Images, Recipe, score, stored_bytes, train
from worker.engine.trajectory.files import STORES

DATASETS = {"mnist": "mnist", "cifar": "cifar10"}
EXACT = ("every_step", "epoch_starts", "recipe")
VALIDATION = 500
# The first paper's run.
PAPER_STEPS, PAPER_EPOCHS = -(-50_000 // 64) * 20, 20


def parameter_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for name in ("epoch-*", "steps-*") for path in folder.glob(name))


def one_store(
    store: str, recipe: Recipe, images: Images, validation: Images, folder: Path
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return a store's seconds and bytes, and its scores by span."""
    started = time.perf_counter()
    training = train(recipe, images, None, folder, store=store, device="cpu")
    figures: dict[str, float] = {"train_seconds": round(time.perf_counter() - started, 2)}
    figures |= {"parameter_bytes": parameter_bytes(folder), "bytes": stored_bytes(folder)}
    method = "final_params" if store == "final_params" else "sgd_influence"
    values = {}
    for span in SPANS:
        scores = score(training, images, validation, method, span=span)
        if scores.exact != (store in EXACT):
            raise SystemExit(
                f"Scores of the store {store} call themselves "
                f"{'exact' if scores.exact else 'approximate'}; that is wrong."
            )
        values[span] = scores.values
        figures[f"{span}_seconds"] = round(scores.report["seconds"], 2)
    return figures, values


def plain_sgd(name: str, images: Images, epochs: int) -> Recipe:
    """Make a recipe of plain SGD, as in both papers: no optimizer state."""
    settings = {
        "network": name,
        "batch_size": 64,
        "learning_rate": 0.05,
        "momentum": 0.0,
        "schedule": "constant",
    }
    return _data.recipe_for(images, 0, epochs, **settings)


def measure(name: str, count: int, epochs: int) -> dict[str, object]:
    parts = _data.subset(DATASETS[name], {"train": count, "validation": VALIDATION}, 0)
    images, validation = parts["train"], parts["validation"]
    recipe = plain_sgd(name, images, epochs)
    figures: dict[str, dict] = {}
    values: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for store in STORES:
            figures[store], values[store] = one_store(
                store, recipe, images, validation, Path(folder) / store
            )
    equal = {
        span: all(np.array_equal(values[store][span], values[EXACT[0]][span]) for store in EXACT)
        for span in SPANS
    }
    correlation = float(
        spearmanr(
            values["final_params"]["last_epoch"], values["every_step"]["last_epoch"]
        ).statistic
    )
    bytes_of = {store: figures[store]["parameter_bytes"] for store in STORES}
    return {
        "images": count,
        "epochs": epochs,
        "steps": epochs * recipe.steps_per_epoch(count),
        "stores": figures,
        "bit_for_bit": equal,
        "final_params_rank_correlation": round(correlation, 3),
        "every_step_over_epoch_starts": round(bytes_of["every_step"] / bytes_of["epoch_starts"], 1),
        "epoch_starts_over_final_params": round(
            bytes_of["epoch_starts"] / bytes_of["final_params"], 1
        ),
    }


def report(name: str, found: dict) -> str:
    keys = ("parameter_bytes", "bytes", "train_seconds", *(f"{span}_seconds" for span in SPANS))
    lines = [
        (store, *(f"{stored[key]:,}" for key in keys)) for store, stored in found["stores"].items()
    ]
    header = (
        f"{name}: {found['images']:,} images, {found['epochs']} epochs, {found['steps']} steps",
        "bytes of parameters",
        "all bytes",
    )
    said = (
        f"Equal bit for bit between {', '.join(EXACT)}: {found['bit_for_bit']}. every_step takes "
        f"{found['every_step_over_epoch_starts']} times as much as epoch_starts, epoch_starts "
        f"{found['epoch_starts_over_final_params']} times as much as final_params, whose scores of "
        f"the last epoch have a rank correlation of {found['final_params_rank_correlation']} with "
        "the exact ones."
    )
    return (
        f"{_data.table((*header, 'train, s', *(f'score {span}, s' for span in SPANS)), lines)}\n"
        "\n"
        f"{said}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument(
        "--images", type=int, nargs="+", default=[4000, 640], help="one number for each network"
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[5, 2], help="one number for each network"
    )
    asked = parser.parse_args()
    if not len(asked.networks) == len(asked.images) == len(asked.epochs):
        parser.error("--images and --epochs need one number for each network.")
    figures: dict[str, object] = {
        "paper_size_every_step_over_epoch_starts": round(PAPER_STEPS / (PAPER_EPOCHS + 1))
    }
    for name, count, epochs in zip(asked.networks, asked.images, asked.epochs, strict=True):
        figures[name] = found = measure(name, count, epochs)
        print(report(name, found), flush=True)
    _data.end(figures)


if __name__ == "__main__":
    main()
