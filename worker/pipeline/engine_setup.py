"""What this machine lets the engine use: its device, the folder of weights, allowed networks; and what to do with a run of another machine."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.core.settings import Settings
from backend.core.storage import Storage
from worker import engine
from worker.engine import CannotGoOn, Images, Recipe, Training


def ready(settings: Settings, storage: Storage) -> str:
    """Tell the engine of them; returns the device to compute on, "auto", "cpu" or "cuda".

    Networks come from the settings alone, never from a run: importing one runs its code. Raises EngineError for one that cannot be
    imported, and where a GPU is demanded and there is none.
    """
    if settings.device == "cpu":
        # Also for what asks for no device; torch looks here when it first looks for a GPU.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    engine.choose_device(settings.device)
    engine.use_weights_folder(storage.weights)
    for path in settings.own_networks:
        engine.import_network(path)
    return settings.device


def train(
    recipe: Recipe,
    images: Images,
    validation: Images | None,
    folder: Path,
    *,
    log: Callable[[str], None],
    **options: Any,
) -> Training:
    """As the engine's `train`, but anew where the run in the folder cannot go on here: its worker may have died, and this be another machine."""
    try:
        return engine.train(recipe, images, validation, folder, **options)
    except CannotGoOn:
        log(
            "This training was begun where its steps come out otherwise (another machine, or another version of its network), so it begins anew."
        )
        shutil.rmtree(folder)
        return engine.train(recipe, images, validation, folder, **options)
