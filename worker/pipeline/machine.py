"""What this machine lets the engine use: its device, the folder of weights, and the networks that the administrator allowed."""

import os

from backend.settings import Settings
from backend.storage import Storage
from worker import engine


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
