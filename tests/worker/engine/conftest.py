"""Small images that train in a blink."""

from typing import Any

import numpy as np
import pytest
import torch

from worker.engine import NETWORKS, Features, Images, Recipe

# Recipe settings for each way that SGD updates.
SGD: dict[str, dict[str, Any]] = {
    "sgd": {},
    "weight decay": {"weight_decay": 0.05},
    "momentum": {"momentum": 0.8},
    "momentum and weight decay": {"momentum": 0.8, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "nesterov and weight decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Use one thread: tiny networks are slower with two."""
    torch.set_num_threads(1)


def some_images(
    count: int,
    *,
    classes: int = 3,
    side: int = 16,
    channels: int = 1,
    seed: int = 0,
    first_id: int = 0,
) -> Images:
    """Make noisy images whose class is the place of a bright block."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = generator.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    for position, label in enumerate(labels):
        pixels[position, :, label * 4 : label * 4 + 4] += 100
    return Images(
        pixels, labels.astype(np.int64), np.arange(first_id, first_id + count, dtype=np.int64)
    )


def some_features(
    count: int,
    *,
    classes: int = 3,
    features: int = 10,
    seed: int = 0,
    first_id: int = 0,
    noise: float = 1.0,
) -> Features:
    """Make features whose classes overlap, so that some labels surprise."""
    directions = np.random.default_rng(99).normal(size=(features, classes))
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, features))
    labels = (values @ directions + noise * generator.gumbel(size=(count, classes))).argmax(1)
    return Features(
        (values * 2 + 1).astype(np.float16),
        labels.astype(np.int64),
        np.arange(first_id, first_id + count, dtype=np.int64),
        mean=np.full(features, 1, dtype=np.float32),
        std=np.full(features, 2, dtype=np.float32),
        backbone="b" * 64,
    )


def a_recipe(**settings) -> Recipe:
    defaults = {
        "network": "mnist",
        "classes": 3,
        "channels": 1,
        "height": 16,
        "width": 16,
        "mean": (0.4,),
        "std": (0.2,),
    }
    return Recipe(
        **(defaults | {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "seed": 7} | settings)
    )


@pytest.fixture
def images() -> Images:
    return some_images(45)


@pytest.fixture
def validation() -> Images:
    return some_images(30, seed=1, first_id=1000)


@pytest.fixture
def forget_own_networks():
    """Remove the networks that a test registered."""
    known = dict(NETWORKS)
    yield
    NETWORKS.clear()
    NETWORKS.update(known)
