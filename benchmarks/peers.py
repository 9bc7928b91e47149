"""Peers (captum, dattri, cleanlab) against this engine, on the same trained model.

    python -m pip install --no-deps -r benchmarks/peers.txt
    python -m benchmarks.peers [--images 1000] [--epochs 8] [--flip 0.1] [--seeds 3]

First, MNIST with wrong labels: scores by the mean loss of 500 validation images, each method in a
process. Figures: seconds (cleanlab's with its five trainings), peak memory above the start, quality
as in `flips`. Second, `table1`: agreement with true leave-one-out.

Each at its quickest: captum aggregates validation images, with gradients of 100 images at once;
dattri gets a training batch and a single validation target, without random projection. TracIn: all
epochs' ends, the run's learning rates. dattri's influence function: our damping (its default), ten
steps of conjugate gradients. cleanlab: this engine's probabilities.
Default: three minutes on two cores.
"""

import argparse
import functools
import importlib.metadata
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import _data, table1
from benchmarks.flips import found_by
from benchmarks.large_data import Watch
from worker.engine import METHODS as OURS
from worker.engine import Images, Training, load_training, score, train
from worker.engine.images import unaugmented_batch
from worker.engine.networks.registry import build, named_tensors
from worker.engine.trajectory.files import epoch_file, read_point

VALIDATION, BATCH = 500, 100
Compute = Callable[[Training, Images, Images], np.ndarray]


def model_of(training: Training) -> tuple[nn.Module, list[dict[str, torch.Tensor]]]:
    """Return the run's module, and its tensors at each epoch's end."""
    network, _ = build(training.recipe)
    points = [
        read_point(epoch_file(training.folder, epoch + 1), training.record.run)[0]
        for epoch in range(training.recipe.epochs)
    ]
    network.module.requires_grad_(True)
    return network.module, [named_tensors(network, params) for params in points]


def rates(training: Training) -> list[float]:
    """Return each epoch's mean learning rate over the batch size."""
    recipe, count = training.recipe, training.record.count
    steps = recipe.steps_per_epoch(count)
    means = [
        np.mean([recipe.rate(epoch * steps + t, recipe.epochs * steps) for t in range(steps)])
        for epoch in range(recipe.epochs)
    ]
    return [float(mean) * steps / count for mean in means]


def tensors(training: Training, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images as a batch: x (N, C, H, W), y (N,)."""
    return unaugmented_batch(training.recipe, images, np.arange(len(images)), torch.float32)


def captum_tracin(training: Training, images: Images, validation: Images) -> np.ndarray:
    """Run captum's TracInCP, (N,): high for what helps."""
    from captum.influence import TracInCP

    module, states = model_of(training)
    weights = rates(training)

    def load(model: nn.Module, checkpoint: str) -> float:
        model.load_state_dict(states[int(checkpoint)])
        return weights[int(checkpoint)]

    tracin = TracInCP(
        module,
        TensorDataset(*tensors(training, images)),
        checkpoints=[str(epoch) for epoch in range(len(states))],
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=BATCH,
        sample_wise_grads_per_batch=True,
    )
    target = DataLoader(TensorDataset(*tensors(training, validation)), batch_size=BATCH)
    return tracin.influence(target, aggregate=True)[0].double().numpy() / len(validation)


def _task(training: Training, states: list[dict[str, torch.Tensor]], module: nn.Module) -> object:
    """Describe the run to dattri: an item's mean loss."""
    from dattri.task import AttributionTask

    def loss(
        params: dict[str, torch.Tensor], data: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        x, y = data
        logits = torch.func.functional_call(
            module, params, (x.reshape(-1, *training.recipe.shape),)
        )
        return functional.cross_entropy(logits, y.reshape(-1))

    return AttributionTask(loss_func=loss, model=module, checkpoints=states)


def _loaders(
    training: Training, images: Images, validation: Images
) -> tuple[DataLoader, DataLoader]:
    x, y = tensors(training, validation)
    inside = DataLoader(TensorDataset(*tensors(training, images)), batch_size=len(images))
    return inside, DataLoader(TensorDataset(x[None], y[None]), batch_size=1)


def dattri_tracin(training: Training, images: Images, validation: Images) -> np.ndarray:
    from dattri.algorithm import TracInAttributor

    module, states = model_of(training)
    attributor = TracInAttributor(
        _task(training, states, module),
        weight_list=torch.tensor(rates(training)),
        normalized_grad=False,
    )
    # The constructor makes a projection even for None.
    attributor.projector_kwargs = None
    with torch.no_grad():
        return attributor.attribute(*_loaders(training, images, validation))[:, 0].double().numpy()


def dattri_influence(training: Training, images: Images, validation: Images) -> np.ndarray:
    from dattri.algorithm import IFAttributorCG

    module, states = model_of(training)
    damping = OURS["influence_function"].options["ridge"]
    attributor = IFAttributorCG(
        _task(training, states[-1:], module), regularization=damping + training.recipe.weight_decay
    )
    inside, target = _loaders(training, images, validation)
    attributor.cache(inside)
    return attributor.attribute(inside, target)[:, 0].detach().double().numpy() / len(images)


def ours(
    method: str, span: str, training: Training, images: Images, validation: Images
) -> np.ndarray:
    return score(training, images, validation, method, span=span).values


METHODS: dict[str, Compute] = {
    "sgd_influence, last epoch": functools.partial(ours, "sgd_influence", "last_epoch"),
    "sgd_influence, all epochs": functools.partial(ours, "sgd_influence", "all_epochs"),
    "tracin": functools.partial(ours, "tracin", "all_epochs"),
    "captum TracInCP": captum_tracin,
    "dattri TracIn": dattri_tracin,
    "influence_function": functools.partial(ours, "influence_function", "last_epoch"),
    "dattri influence (CG)": dattri_influence,
    "margin": functools.partial(ours, "margin", "last_epoch"),
    "cleanlab, five folds": functools.partial(ours, "confident_learning", "last_epoch"),
}


def measured(
    folder: Path, images: Images, validation: Images, name: str
) -> tuple[np.ndarray, float, int]:
    """Return a method's values, seconds, and bytes above the start."""
    if name.startswith(("captum", "dattri")):
        importlib.import_module(name.split(maxsplit=1)[0])
    training = load_training(folder)
    watch, before, started = Watch(), Watch.now()[0], time.perf_counter()
    values = METHODS[name](training, images, validation)
    seconds = time.perf_counter() - started
    # The current value too: sampling may miss a short method.
    return values, seconds, max(watch.end()[0], Watch.now()[0]) - before


def wrong_labels(count: int, epochs: int, flip: float) -> dict[str, dict[str, float]]:
    parts = _data.subset("mnist", {"train": count, "validation": VALIDATION}, 0)
    images, wrong = _data.with_flips(parts["train"], flip, "symmetric", 0)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        train(_data.recipe_for(images, 0, epochs), images, None, Path(folder), device="cpu")
        # A fresh process each, without leftover memory.
        with multiprocessing.get_context("spawn").Pool(
            1, _quiet, (torch.get_num_threads(),), maxtasksperchild=1
        ) as pool:
            for name in METHODS:
                values, seconds, held = pool.apply(
                    measured, (Path(folder), images, parts["validation"], name)
                )
                found = {
                    measure: round(value, 3) for measure, value in found_by(values, wrong).items()
                }
                figures[name] = {"seconds": round(seconds, 2), "mib": round(held / 2**20)} | found
    return figures


def _quiet(threads: int) -> None:
    """Silence warnings and progress bars."""
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(threads)


def against_truth(name: str, seeds: int) -> dict[str, dict[str, float]]:
    """Compare every method with leave-one-out in a setting of `table1`."""
    features, labels = table1.rows(table1.SETTINGS[name].dataset)
    found: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    for seed in range(seeds):
        recipe, images, validation = table1.prepared(name, features, labels, seed)
        truth = table1.leave_each_out(recipe, images, validation)
        with tempfile.TemporaryDirectory() as folder:
            training = train(recipe, images, None, Path(folder), device="cpu")
            for method, compute in METHODS.items():
                found[method].append(table1.agreement(truth, compute(training, images, validation)))
    means = {method: np.mean(values, axis=0) for method, values in found.items()}
    return {
        method: {f"tau_{name}": round(float(tau), 3), f"jaccard_{name}": round(float(index), 3)}
        for method, (tau, index) in means.items()
    }


def report(figures: dict[str, dict[str, float]]) -> str:
    keys = list(next(iter(figures.values())))
    return _data.table(
        ("", *keys), [(method, *(found[key] for key in keys)) for method, found in figures.items()]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--flip", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    try:
        versions = {
            name: importlib.metadata.version(name) for name in ("captum", "dattri", "cleanlab")
        }
    except importlib.metadata.PackageNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed: python -m pip install --no-deps -r "
            "benchmarks/peers.txt, best into an environment of its own."
        )
    _quiet(torch.get_num_threads())
    figures = wrong_labels(asked.images, asked.epochs, asked.flip)
    print(report(figures), "\n", flush=True)
    truths = [against_truth(name, asked.seeds) for name in table1.SETTINGS]
    agreements = {
        method: {key: value for truth in truths for key, value in truth[method].items()}
        for method in METHODS
    }
    print(report(agreements))
    figures = {method: found | agreements[method] for method, found in figures.items()}
    _data.end(
        {
            "images": asked.images,
            "epochs": asked.epochs,
            "flip": asked.flip,
            "seeds": asked.seeds,
            "versions": versions,
            **figures,
        }
    )


if __name__ == "__main__":
    main()
