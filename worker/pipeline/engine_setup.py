"""The engine's device on this machine, and the folders of its runs."""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import engine
from worker.engine import AnotherRun, CannotGoOn, FeatureStore, Images, Recipe, Training


def ready(settings: Settings, storage: Storage) -> str:
    """Prepare the engine; returns the device to compute on: "auto", "cpu" or "cuda".

    Networks come from the settings alone: importing a network runs its code.
    Raises EngineError for a missing GPU or a network that cannot be imported.
    """
    if settings.device == "cpu":
        # For code that names no device; torch reads this at its first look.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    engine.choose_device(settings.device)
    engine.use_weights_folder(storage.weights)
    for path in settings.own_networks:
        engine.import_network(path)
    return settings.device


def load_training(storage: Storage, run_id: int) -> Training:
    return engine.load_training(storage.run(run_id))


def feature_store(
    storage: Storage, data_set_id: int, digest: str, width: int, keys: Sequence[str]
) -> FeatureStore:
    """Open the store of a data set's features. digest: the backbone's. keys: of pictures, (M,)."""
    return FeatureStore(storage.features(data_set_id, digest), digest, width, keys)


def stored_bytes(storage: Storage, run_id: int) -> int:
    return engine.stored_bytes(storage.run(run_id))


def train(
    recipe: Recipe,
    images: Images,
    validation: Images | None,
    storage: Storage,
    run_id: int,
    *,
    log: Callable[[str], None],
    **options: Any,
) -> Training:
    """Train or resume a run; start again where its folder cannot be resumed.

    A database restored from a backup gives out numbers again, so a folder may be another run's.
    """
    folder = storage.run(run_id)
    try:
        return engine.train(recipe, images, validation, folder, **options)
    except CannotGoOn:
        log(
            "This training was begun where its steps come out otherwise (another machine, "
            "or another version of its network), so it starts again."
        )
    except AnotherRun:
        log(
            "The files in this training's folder are another training's (left from before a "
            "restore), or damaged, so it starts again."
        )
    shutil.rmtree(folder)
    return engine.train(recipe, images, validation, folder, **options)
